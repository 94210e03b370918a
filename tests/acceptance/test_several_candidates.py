"""Three candidates on one route at once, asked by the official client, through a running system."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import openai
import pytest

from gateway.prompts import Prompt, load_prompts

_USUAL: dict[str, Any] = {
    "first_token": "5ms",
    "tokens_per_second": 4000,
    "tokens_per_chunk": 8,
    "sampling": "per_request",
    "quality": 0.7,
}
_SIMULATOR: dict[str, Any] = {
    "seed": 4,
    "models": {
        "support-v6": _USUAL,
        "good": {**_USUAL, "quality": 0.95},
        "breaking": {**_USUAL, "json_break_rate": 0.6},
        "slower": {**_USUAL, "first_token": "400ms"},
        "judge": {"role": "judge", "first_token": "2ms"},
    },
}


def _spec(candidate: str, percentage: float, pairs: int) -> dict[str, Any]:
    return {
        "kind": "Rollout",
        "name": candidate,
        "route": "support-bot",
        "candidate": {"deployment": candidate},
        "mirror": {
            "percentage": percentage,
            "adaptive": False,
            "timeout": "10s",
            "noise_probe": "5%",
            "max_concurrency": 8,
        },
        "steps": [
            {"mirror": {"min_pairs": pairs, "max_duration": "10m"}},
            {"set_weight": 20},
            {"analysis": {"min_samples": 100_000}},
            {"set_weight": 100},
        ],
        "analysis": {
            "metrics": [
                {"name": "judge_win_rate", "role": "signal"},
                {"name": "format_valid", "margin": 0.2, "critical": True},
                {"name": "error_rate", "margin": 0.2},
                {"name": "latency", "role": "signal", "slo": "300ms", "margin": 0.1},
            ],
        },
    }


def _ask(client: openai.OpenAI, prompt: Prompt, number: int) -> tuple[str, str]:
    """Ask once, every third time as a stream; return who answered, and for which rollout."""
    create: Any = client.chat.completions.with_raw_response.create
    request = prompt.request("support-bot", stream=number % 3 == 0)
    headers = {"x-user-id": f"user-{number % 97}", "x-category": prompt.category}
    answer = create(**request, extra_headers=headers)
    for _ in answer.parse() if number % 3 == 0 else ():
        pass
    return answer.headers["x-coalmine-variant"], answer.headers.get("x-coalmine-rollout", "")


@contextmanager
def _users(system: Any, threads: int = 4) -> Iterator[Counter[tuple[str, str]]]:
    """Users who ask one request after the other; what they were told of who answered."""
    seen: Counter[tuple[str, str]] = Counter()
    errors: list[BaseException] = []
    numbers, prompts, stop = count(), load_prompts(), threading.Event()

    def ask_on() -> None:
        url = system.scene.gateway_url
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=30) as client:
            while not stop.is_set():
                number = next(numbers)
                try:
                    seen[_ask(client, prompts[number * 7 % len(prompts)], number)] += 1
                except openai.OpenAIError as error:
                    errors.append(error)

    running = [threading.Thread(target=ask_on) for _ in range(threads)]
    for each in running:
        each.start()
    try:
        yield seen
    finally:
        stop.set()
        for each in running:
            each.join()
    assert not errors


@pytest.fixture
def system(start_system: Callable[..., Any]) -> Any:
    """A system whose answers to every extraction prompt must be JSON."""
    return start_system(simulator=_SIMULATOR, changes={"worker": {"concurrency": 24}})


def _compared(system: Any) -> dict[str, dict[str, Any]]:
    answer = system.api.get("/compare", params={"route": "support-bot", "finished": True})
    assert answer.status_code == 200, answer.text
    return {each["name"]: each for each in answer.json()["candidates"]}


def test_three_candidates_side_by_side(system: Any) -> None:
    """The one that breaks JSON is caught in shadow, the good one goes live, the slower one waits.

    Then the good one is promoted, and the slower one starts again against it.
    """
    for candidate, percentage in (("good", 60), ("breaking", 40), ("slower", 25)):
        system.apply(_spec(candidate, percentage, 60))
    with _users(system) as seen:
        system.wait_for("breaking", lambda status: status["phase"] == "rolled_back", within=90)
        system.wait_for("good", lambda status: status["phase"] == "progressing", within=90)
        waiting = system.wait_for(
            "slower", lambda status: status["waiting"] == "live_traffic_held", within=90
        )
        assert waiting["phase"] == "shadowing"
        assert "'good' holds the live traffic" in waiting["why"]
        side_by_side = _compared(system)
        system.wait_for("good", lambda status: status["counts"]["step_candidate"] > 20)
        answer = system.api.post("/rollouts/good/promote", json={"reason": "we know it"})
        assert answer.status_code == 200, answer.text
        again = system.wait_for(
            "slower",
            lambda status: status["generation"] == 2 and status["counts"]["pairs"] >= 5,
            within=60,
        )
        assert again["baseline"] == "good"
    served = {rollout for variant, rollout in seen if variant == "candidate"}
    assert served == {"good"}

    # From the same captures: whatever the smallest sample took, the others were given too.
    smallest = side_by_side["slower"]["captures"]
    assert smallest["taken"] == smallest["shared"] > 60
    assert side_by_side["good"]["captures"]["shared"] >= smallest["taken"]
    verdicts = {
        name: {metric["name"]: metric["verdict"] for metric in each["metrics"]}
        for name, each in side_by_side.items()
    }
    assert verdicts["good"]["format_valid"] == "pass"
    assert verdicts["breaking"]["format_valid"] == "fail"
    # A worker short of CPU leaves latencies out, so that it may not be proven; it never passes.
    assert verdicts["slower"]["format_valid"] == "pass"
    assert verdicts["slower"]["latency"] != "pass"
    assert all(each["reconciles"] for each in _compared(system).values())
    for name, generation in (("good", 1), ("breaking", 1), ("slower", 1), ("slower", 2)):
        replayed = system.api.get(f"/rollouts/{name}/replay", params={"generation": generation})
        assert replayed.json()["same"] is True, (name, generation, replayed.json())
