"""Whatever a candidate does, clients see what the README says and no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

_FINE = {"tokens_per_second": 4000, "tokens_per_chunk": 2}
_SIMULATOR = {
    "models": {"support-v6": _FINE, "support-v7": _FINE, "judge": {"role": "judge"}},
}
_SPEC = {
    "kind": "Rollout",
    "name": "faulty",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
    "mirror": {"percentage": 1, "adaptive": False},
    "steps": [{"mirror": {"min_pairs": 100_000}}, {"set_weight": 100}],
}
_BODY: dict[str, Any] = {
    "model": "support-bot",
    "messages": [{"role": "user", "content": "My parcel is late, where is it?"}],
}


@pytest.fixture(scope="module")
def system(start_shared_system: Callable[..., Any]) -> Any:
    """Run a system whose candidate serves everybody, with the breaker out of the way."""
    system = start_shared_system(
        simulator=_SIMULATOR,
        changes={"gateway": {"first_byte_timeout": "500ms", "breaker_failures": 1000,
                             "breaker_window": 1000}},
    )  # fmt: skip
    system.apply(_SPEC)
    system.wait_for("faulty", lambda status: status["phase"] == "shadowing")
    return system


def _behave(system: Any, behaviour: dict[str, Any]) -> None:
    system.simulator.post("/sim/models/support-v7", json=behaviour).raise_for_status()


@pytest.fixture
def url(system: Any) -> str:
    """Give the gateway's address once it serves the candidate; harm would have set it back."""
    _behave(system, _FINE)
    status = system.api.get("/rollouts/faulty").json()
    if status["phase"] in {"rolled_back", "rolling_back"}:
        system.wait_for("faulty", lambda each: each["phase"] == "rolled_back")
        system.api.post("/rollouts/faulty/retry", json={"reason": "next case"}).raise_for_status()
        system.wait_for("faulty", lambda each: each["phase"] == "shadowing")
    answer = system.api.put("/rollouts/faulty/weight", json={"weight": 100, "reason": "test"})
    assert answer.status_code == 200, answer.text
    url = f"{system.scene.gateway_url}/chat/completions"
    for _ in range(2000):
        if (
            httpx.post(url, json=_BODY, trust_env=False).headers["x-coalmine-variant"]
            == "candidate"
        ):
            return url
    raise AssertionError("the weight never reached the gateway")


@pytest.mark.parametrize(
    "fault",
    [{"error_rate": 1.0}, {"rate_limit_rate": 1.0}, {"hang_rate": 1.0}],
    ids=["answers-500", "answers-429", "hangs"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_failure_before_the_first_byte_is_served_by_the_baseline(
    system: Any, url: str, fault: dict[str, Any], stream: bool
) -> None:
    """The client gets the baseline's answer, and is told that it was a fallback."""
    expected = httpx.post(
        f"{system.simulator.base_url}/v1/chat/completions",
        json={**_BODY, "model": "support-v6", "stream": stream},
        trust_env=False,
    )
    _behave(system, {**_FINE, **fault})
    answer = httpx.post(url, json={**_BODY, "stream": stream}, trust_env=False, timeout=20)
    assert answer.status_code == 200
    assert answer.headers["x-coalmine-variant"] == "baseline"
    assert answer.headers["x-coalmine-reason"] == "fallback"
    assert answer.content == expected.content


def test_a_stream_cut_in_the_middle_ends_with_an_error_and_one_model(system: Any, url: str) -> None:
    """What had come from the candidate stays, an error event follows, and nothing else does."""
    whole = httpx.post(url, json={**_BODY, "stream": True}, trust_env=False).text
    _behave(system, {**_FINE, "cut_rate": 1.0})
    with httpx.stream(
        "POST", url, json={**_BODY, "stream": True}, trust_env=False, timeout=20
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["x-coalmine-variant"] == "candidate"
        received = "".join(answer.iter_text())
    events = [line.removeprefix("data: ") for line in received.splitlines() if line]
    assert json.loads(events[-1])["error"]["message"]
    assert "[DONE]" not in events
    contents = [json.loads(event) for event in events[:-1]]
    assert {chunk["model"] for chunk in contents} == {"support-v7"}
    assert len(received) < len(whole) + 500


def test_a_whole_answer_cut_in_the_middle_never_mixes_models(system: Any, url: str) -> None:
    """The client gets the baseline's whole answer or a broken one, never a splice."""
    _behave(system, {**_FINE, "cut_rate": 1.0})
    try:
        answer = httpx.post(url, json=_BODY, trust_env=False, timeout=20)
    except httpx.TransportError:
        return  # the connection was closed: the client knows that the answer is not whole
    assert answer.headers["x-coalmine-reason"] == "fallback"
    assert answer.json()["model"] == "support-v6"


def test_garbage_is_never_half_believed(system: Any, url: str) -> None:
    """Bytes that are no HTTP are a failure before the first byte; a 200 is passed on."""
    _behave(system, {**_FINE, "garbage_rate": 1.0, "sampling": "per_request"})
    seen = set()
    for _ in range(20):
        answer = httpx.post(url, json=_BODY, trust_env=False, timeout=20)
        assert answer.status_code in {200, 500, 502, 503}
        if answer.headers["x-coalmine-variant"] == "baseline":
            assert answer.json()["model"] == "support-v6"
        seen.add(answer.headers["x-coalmine-variant"])
    assert "baseline" in seen
