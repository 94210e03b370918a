"""Weights that people set: monotone, sticky, exact, and gone at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.upstream import Upstream

_SIMULATOR = {
    "models": {
        "support-v6": {},
        "support-v7": {},
        "judge": {"role": "judge"},
    }
}
_SPEC = {
    "kind": "Rollout",
    "name": "by-hand",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
    "mirror": {"percentage": 1, "adaptive": False, "noise_probe": 0},
    "steps": [{"mirror": {"min_pairs": 100_000}}, {"set_weight": 50}],
    "analysis": {"live_sample": 0},
}
_BODY = b'{"model":"support-bot","messages":[{"role":"user","content":"My parcel is late"}]}'


async def _variants(base_url: str, keys: range) -> dict[int, str]:
    """Ask once for each key, 32 at a time, and return the variant that served it."""
    upstream = Upstream("gateway", base_url)
    slots = asyncio.Semaphore(32)
    served: dict[int, str] = {}

    async def ask(key: int) -> None:
        head = (
            b"POST %b/chat/completions HTTP/1.1\r\n%bcontent-type: application/json\r\n"
            b"content-length: %d\r\nx-user-id: user-%d\r\n\r\n"
        ) % (upstream.prefix, upstream.host_lines, len(_BODY), key)
        async with slots:
            exchange = await upstream.request(b"POST", head, _BODY)
            while await exchange.read():
                pass
        assert exchange.status == 200
        headers = dict(exchange.headers)
        assert headers[b"x-coalmine-reason"] == b"split"
        served[key] = headers[b"x-coalmine-variant"].decode()

    await asyncio.gather(*(ask(key) for key in keys))
    upstream.close()
    return served


def _set_weight(system: Any, weight: float) -> None:
    """Set the weight and wait until the gateway has said that it serves it."""
    answer = system.api.put("/rollouts/by-hand/weight", json={"weight": weight, "reason": "test"})
    assert answer.status_code == 200, answer.text
    deadline = time.monotonic() + 20
    while True:
        route = system.api.get("/routes/support-bot").json()
        gateways = [each for each in route["replicas"] if each["alive"]]
        if gateways and all(each["is_current"] for each in gateways):
            assert route["weight"] == weight
            return
        assert time.monotonic() < deadline, route


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_ten_thousand_keys_from_zero_to_thirty_and_back(
    start_system: Callable[..., Any], request: pytest.FixtureRequest, backend: str
) -> None:
    """Widening moves nobody off the candidate, the share is the weight, and 0 means none."""
    store = request.getfixturevalue("postgres_url") if backend == "postgresql" else None
    system = start_system(simulator=_SIMULATOR, store=store)
    system.apply(_SPEC)
    system.wait_for("by-hand", lambda status: status["phase"] == "shadowing")
    keys = range(10_000)

    _set_weight(system, 10)
    ten = asyncio.run(_variants(system.scene.gateway_url, keys))
    _set_weight(system, 30)
    thirty = asyncio.run(_variants(system.scene.gateway_url, keys))

    on_ten = {key for key, variant in ten.items() if variant == "candidate"}
    on_thirty = {key for key, variant in thirty.items() if variant == "candidate"}
    assert len(on_thirty) == pytest.approx(3000, abs=5 * (10_000 * 0.3 * 0.7) ** 0.5)
    assert on_ten < on_thirty
    again = asyncio.run(_variants(system.scene.gateway_url, range(0, 10_000, 10)))
    assert {key for key, variant in again.items() if variant == "candidate"} == {
        key for key in on_thirty if key % 10 == 0
    }

    _set_weight(system, 0)
    none = asyncio.run(_variants(system.scene.gateway_url, range(2000)))
    assert set(none.values()) == {"baseline"}
    route = system.api.get("/routes/support-bot").json()
    assert route["time_to_zero"] is not None
    assert 0 <= route["time_to_zero"] < 60
