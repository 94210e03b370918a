"""What one request is counted for: its arm, its samples, and what became of them."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.batch import Batch
from gateway.breaker import Breaker
from gateway.capture import CaptureBuffer
from gateway.metrics import GatewayMetrics
from gateway.observe import Observation
from gateway.routes import RouteState
from gateway.split import Assignment, Eligibility, Mirror, Sampler, Split, assign
from gateway.wire import Answer, Peek

SPLIT = Split(
    route="bot",
    revision=3,
    baseline="base",
    candidate="cand",
    weight_bp=5000,
    salt="s",
    epoch=2,
    rollout="r1",
    rollout_id=1,
    live_sample_bp=2000,
    slo_s=1.0,
    mirrors=(
        Mirror(1, "r1", "cand", percentage_bp=3000, noise_bp=5000, salt="m1"),
        Mirror(2, "r2", "other", percentage_bp=1000, noise_bp=0, salt="m2"),
    ),
)
BASELINE = Assignment("baseline", "split")
CANDIDATE = Assignment("candidate", "split")
FALLBACK = Assignment("baseline", "fallback")
ANSWER = Answer(input_tokens=3, output_tokens=2)


def everyone(**changes: Any) -> Split:
    """Build a split that samples every request for one mirror, and nothing else."""
    mirrors = (Mirror(1, "r1", "cand", percentage_bp=10_000, noise_bp=0, salt="m"),)
    return SPLIT.evolve(**{"mirrors": mirrors, "live_sample_bp": 0, **changes})


class World:
    """A route and a buffer, and the requests that pass."""

    def __init__(self, split: Split = SPLIT, **limits: Any) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        arm: Any = SimpleNamespace(name="base")
        self.route = RouteState(
            split,
            baseline=arm,
            candidate=arm,
            breaker=Breaker(failures=1),
            metrics=GatewayMetrics(registry).route("bot"),
            segment=None,
            risk=None,
        )
        bounds = {"max_bytes": 1_000_000, "max_count": 1000, **limits}
        self.buffer = CaptureBuffer(**bounds, now=0)
        self.limit = 1000

    def request(self, key: str = "k", **changes: Any) -> Any:
        """Build a request."""
        values = {
            "key": key,
            "id": b"id-" + key.encode(),
            "eligible": True,
            "partakes": True,
            "body": b"0123456789",
            "caller": SimpleNamespace(shadow=True),
            "raw": {},
            "inference": True,
            "peeked": Peek(model="bot"),
            "targeting_key": f"user-{key}",
            "created_at": 5.0,
            "endpoint": "/chat/completions",
            "segment": None,
            "risk": None,
            "cut": False,
        }
        return SimpleNamespace(**{**values, **changes})

    def observe(self, request: Any, assigned: Assignment) -> Observation:
        """Begin to follow a request."""
        return Observation(self.route, request, assigned, self.buffer, self.limit)

    def serve(
        self, request: Any, assigned: Assignment = BASELINE, *parts: bytes, **ending: Any
    ) -> None:
        """Follow a request to its end, served by the arm that it was assigned to."""
        observation = self.observe(request, assigned)
        observation.begin(assigned)
        for part in parts or (b"answer",):
            observation.tee(part)
        finish(observation, **ending)

    def funnel(self) -> dict[str, int]:
        """Take the batch, and return the funnel of rollout 1's mirror."""
        batch = self.buffer.take(1)
        return {o: n for (r, s, o), n in batch.funnel.items() if (r, s) == (1, "mirror")}

    def counted(self, outcome: str) -> float:
        """Read the metric of captures."""
        labels = {"route": "bot", "outcome": outcome}
        return self.registry.get_sample_value("coalmine_captures_total", labels) or 0.0


def finish(observation: Observation, **changes: Any) -> None:
    """End a request well, or as ``changes`` say."""
    ending = {
        "status": 200,
        "complete": True,
        "timeout": False,
        "total": 0.5,
        "first": 0.1,
        "answer": ANSWER,
        "deployment": "base",
        "encoding": b"",
        **changes,
    }
    observation.finish(**ending)


def tallies(batch: Batch) -> dict[str, tuple[int, int, int, int]]:
    """Return the counts of the one window: requests, errors, timeouts and slow ones."""
    (arms,) = batch.windows.values()
    return {name: (t.requests, t.error_rate, t.timeout_rate, t.latency) for name, t in arms.items()}


def test_every_draw_is_the_splits_own() -> None:
    """Who is sampled follows from key and salts alone, and every stream's outcomes add up."""
    world = World(max_count=10_000)
    expected: Counter[tuple[int, str, str]] = Counter()
    arms: Counter[str] = Counter()

    def expect(rollout_id: int, stream: str, taken: bool) -> None:
        expected[rollout_id, stream, "eligible"] += 1
        expected[rollout_id, stream, "pending" if taken else "not_sampled"] += 1

    for number in range(2000):
        key = f"key-{number}"
        assigned = assign(SPLIT, key, eligible=True, request_key=key)
        arms[assigned.variant] += 1
        world.serve(world.request(key), assigned)
        if assigned.variant == "baseline":
            one, two = SPLIT.mirrors
            expect(1, "mirror", Sampler("m1", one.percentage_bp).takes(key))
            if Sampler("m1", one.percentage_bp).takes(key):
                expect(1, "noise", Sampler("m1:1:noise", one.noise_bp).takes(key))
            expect(2, "mirror", Sampler("m2", two.percentage_bp).takes(key))
        expect(1, "live", Sampler("s:live", SPLIT.live_sample_bp).takes(key))
    batch = world.buffer.take(1, max_count=10_000)
    assert dict(batch.funnel) == dict(expected)
    assert tallies(batch) == {name: (count, 0, 0, 0) for name, count in arms.items()}
    pairs = Counter((r, s, "pending") for capture in batch.captures for r, s in capture.pairs)
    assert pairs == {key: n for key, n in expected.items() if key[2] == "pending"}
    assert world.buffer.bytes == batch.size == 16 * len(batch.captures)
    mirrored = sum(
        any(stream == "mirror" for _, stream in capture.pairs) for capture in batch.captures
    )
    assert world.counted("pending") == mirrored
    assert world.counted("not_sampled") == arms["baseline"] - mirrored


def test_a_capture_is_what_was_sent_and_answered() -> None:
    """The pieces of the answer are joined, and the targeting key is only a pseudonym."""
    world = World(everyone())
    world.serve(world.request(), BASELINE, b"one ", b"two", first=None)
    (capture,) = world.buffer.take(1).captures
    assert (capture.request_body, capture.response_body) == (b"0123456789", b"one two")
    assert (capture.id, capture.request_id, capture.size) == ("k", "id-k", 17)
    assert (capture.split_revision, capture.epoch, capture.weight_bp) == (3, 2, 5000)
    assert (capture.ttft_s, capture.total_s) == (None, 0.5)
    assert (capture.input_tokens, capture.output_tokens) == (3, 2)
    assert capture.key_hash
    assert "user" not in capture.key_hash


@pytest.mark.parametrize(
    ("changes", "ending", "outcome"),
    [
        ({"caller": SimpleNamespace(shadow=False)}, {}, "withheld"),
        ({"raw": {b"x-coalmine-shadow": b" OFF"}}, {}, "withheld"),
        ({"inference": False}, {}, "unsupported"),
        ({"peeked": Peek(model="bot", n=2)}, {}, "unsupported"),
        ({"body": b"x" * 1001}, {}, "over_size"),
        ({}, {"status": 404}, "unsupported"),
        ({}, {"complete": False}, "unsupported"),
        ({}, {"encoding": b"br"}, "unsupported"),
        ({}, {}, "pending"),
    ],
)
def test_every_request_ends_once(
    changes: dict[str, Any], ending: dict[str, Any], outcome: str
) -> None:
    """A sampled request is captured or has one reason why not; then it takes no room."""
    world = World(everyone())
    world.serve(world.request(**changes), BASELINE, **ending)
    assert world.counted(outcome) == 1
    assert world.buffer.bytes == (16 if outcome == "pending" else 0)
    assert world.funnel() == {"eligible": 1, outcome: 1}


def test_an_answer_over_the_limit_is_let_go() -> None:
    """The limit is for request and answer each; what was kept is given back at once."""
    world = World(everyone())
    observation = world.observe(world.request(body=b"x" * 1000), BASELINE)
    observation.begin(BASELINE)
    wanted = [observation.tees]
    for piece, held in ((b"y" * 1000, 2000), (b"y", 0)):
        observation.tee(piece)
        wanted.append(observation.tees)
        assert world.buffer.bytes == held
    assert wanted == [True, True, False]
    finish(observation)
    assert world.funnel() == {"eligible": 1, "over_size": 1}


def test_a_full_buffer_sheds() -> None:
    """Without room for the answer, or for one more capture, the request is shed and counted."""
    world = World(everyone(), max_bytes=40, max_count=2)
    for _ in range(4):
        world.serve(world.request(), BASELINE)
    assert world.buffer.bytes == 32
    late = World(everyone(), max_count=1)
    both = [late.observe(late.request(str(number)), BASELINE) for number in range(2)]
    for observation in both:
        observation.begin(BASELINE)
    for observation in both:
        finish(observation)
    assert late.buffer.bytes == 10
    assert world.funnel() == {"eligible": 4, "pending": 2, "shed": 2}
    assert late.funnel() == {"eligible": 2, "pending": 1, "shed": 1}


def test_requests_that_may_not_take_part_are_not_drawn() -> None:
    """An ineligible request is in no funnel and no window."""
    world = World(everyone(live_sample_bp=10_000))
    world.serve(world.request(eligible=False), Assignment("baseline", "ineligible"))
    assert world.buffer.take(1).empty


def test_forced_requests_are_no_evidence() -> None:
    """A forced answer may be mirrored, but counts for no arm and is no live sample."""
    world = World(everyone(live_sample_bp=10_000))
    world.serve(world.request(), Assignment("baseline", "forced"))
    batch = world.buffer.take(1)
    assert not batch.windows
    assert {key[1] for key in batch.funnel} == {"mirror"}


@pytest.mark.parametrize(
    ("ending", "counts"),
    [
        ({}, (1, 0, 0, 0)),
        ({"status": 500}, (1, 1, 0, 0)),
        ({"status": 429}, (1, 1, 0, 0)),
        ({"status": 404}, (1, 0, 0, 0)),
        ({"total": 1.1}, (1, 0, 0, 1)),
        ({"complete": False}, (1, 1, 0, 0)),
        ({"complete": False, "timeout": True}, (1, 1, 1, 1)),
    ],
)
def test_windows_count_how_requests_end(ending: dict[str, Any], counts: tuple[int, ...]) -> None:
    """Errors, timeouts and answers over the objective count for the arm that served."""
    world = World()
    world.serve(world.request(), CANDIDATE, **ending)
    assert tallies(world.buffer.take(1)) == {"baseline": (0, 0, 0, 0), "candidate": counts}


def test_a_client_that_leaves_is_no_error() -> None:
    """A request cut on our side counts as a request, without an error or a capture."""
    world = World(everyone())
    world.serve(world.request(cut=True), BASELINE, status=499, complete=False)
    batch = world.buffer.take(1)
    assert tallies(batch)["baseline"] == (1, 0, 0, 0)
    assert batch.funnel[1, "mirror", "unsupported"] == 1
    early = World(everyone())
    finish(early.observe(early.request(cut=True), BASELINE), status=499, complete=False)
    batch = early.buffer.take(1)
    assert tallies(batch)["baseline"] == (1, 0, 0, 0)
    assert not batch.funnel


def test_a_failed_candidate_is_charged_though_the_baseline_serves() -> None:
    """Intention to treat: the failure counts once, at once, and the answer is no live sample."""
    world = World(everyone(live_sample_bp=10_000))
    observation = world.observe(world.request(), CANDIDATE)
    observation.candidate_failed(timeout=True)
    assert world.buffer.wake.is_set()
    assert tallies(world.buffer.take(1)) == {
        "baseline": (0, 0, 0, 0),
        "candidate": (1, 1, 1, 1),
    }
    observation.begin(FALLBACK)
    observation.tee(b"answer")
    finish(observation)
    batch = world.buffer.take(2)
    assert not batch.windows
    assert dict(batch.funnel) == {
        (1, "live", "eligible"): 1,
        (1, "live", "unsupported"): 1,
        (1, "mirror", "eligible"): 1,
        (1, "mirror", "pending"): 1,
    }


def test_an_open_breaker_suspends_the_windows() -> None:
    """While the breaker turns requests away the arms are not what chance made them."""
    world = World()
    world.route.breaker.record(failed=True, now=0.0)
    world.serve(world.request(), BASELINE)
    assert not world.buffer.take(1).windows


def shadowing(*mirrors: Mirror) -> Split:
    """Build a split of which nobody holds the live traffic."""
    return Split("bot", 1, "base", mirrors=mirrors)


def test_candidates_share_captures() -> None:
    """The mirrors of a route are nested: what the smallest takes is in all, in one capture."""
    shares = {1: 3000, 2: 1000, 3: 300}
    mirrors = (Mirror(n, f"r{n}", f"c{n}", share, 2500, "mirror") for n, share in shares.items())
    world = World(shadowing(*mirrors), max_count=10_000)
    for number in range(3000):
        world.serve(world.request(f"key-{number}"), Assignment("baseline", "default"))
    batch = world.buffer.take(1, max_count=10_000)
    taken = {
        rollout_id: {c.id for c in batch.captures if (rollout_id, "mirror") in c.pairs}
        for rollout_id in shares
    }
    assert taken[3] < taken[2] < taken[1] == {capture.id for capture in batch.captures}
    for rollout_id, share in shares.items():
        expected = 3000 * share / 10_000
        assert abs(len(taken[rollout_id]) - expected) < 5 * expected**0.5
        assert batch.funnel[rollout_id, "mirror", "eligible"] == 3000
        assert batch.funnel[rollout_id, "mirror", "pending"] == len(taken[rollout_id])
    noise = {n: {c.id for c in batch.captures if (n, "noise") in c.pairs} for n in shares}
    common = taken[2]
    assert noise[1] & common != noise[2]


def test_each_mirror_takes_the_requests_of_its_own_rollout() -> None:
    """Another rollout's risk tiers and headers neither widen nor narrow whose requests it takes."""
    low, beta = Eligibility(risk=("low",)), Eligibility(headers=(("x-beta", "1"),))
    mirrors = (
        Mirror(1, "r1", "c1", 10_000, 0, "mirror", eligible=low),
        Mirror(2, "r2", "c2", 10_000, 0, "mirror", eligible=beta),
        Mirror(3, "r3", "c3", 10_000, 0, "mirror"),
    )
    world = World(shadowing(*mirrors).evolve(eligible=Eligibility(risk=("low", "high"))))
    for risk, raw, expected in (
        ("low", {}, {1, 3}),
        ("high", {}, {3}),
        ("high", {b"x-beta": b"1"}, {2, 3}),
        (None, {b"x-beta": b"1"}, {2}),
        (None, {}, set()),
    ):
        world.serve(
            world.request(risk=risk, raw=raw, eligible=risk is not None),
            Assignment("baseline", "default"),
        )
        batch = world.buffer.take(1)
        assert {rollout_id for c in batch.captures for rollout_id, _ in c.pairs} == expected
        eligible = {r for (r, _, outcome) in batch.funnel if outcome == "eligible"}
        assert eligible == expected
    world.serve(world.request(partakes=False), Assignment("baseline", "default"))
    assert world.buffer.take(1).empty


def test_a_mirror_without_terms_of_its_own_follows_the_split() -> None:
    """A split as older versions wrote it: whoever is not eligible is in no mirror's funnel."""
    split = shadowing(Mirror(1, "r1", "c1", 10_000, 0, "m1")).evolve(
        eligible=Eligibility(risk=("low",))
    )
    assert not split.has_own_terms
    world = World(split)
    world.serve(world.request(eligible=False, risk="high"), Assignment("baseline", "default"))
    assert world.buffer.take(1).empty
