"""How much is mirrored follows the traffic, through gateway, store and controller and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_SIMULATOR = {
    "models": {
        "support-v6": {"sampling": "per_request", "first_token": "5ms"},
        "support-v7": {"sampling": "per_request", "first_token": "5ms"},
        "judge": {"role": "judge"},
    }
}
_SPEC: dict[str, Any] = {
    "kind": "Rollout",
    "name": "paced",
    "route": "support-bot",
    "candidate": {"deployment": "support-v7"},
    "mirror": {"percentage": 50, "target_duration": "10m", "timeout": "5s", "noise_probe": 0},
    "steps": [{"mirror": {"min_pairs": 3000, "max_duration": "1h"}}, {"set_weight": 50}],
}


def test_the_share_is_found_from_the_traffic(
    start_system: Callable[..., Any], users: Callable[..., Any]
) -> None:
    """Five pairs a second are wanted of fifty requests: about a tenth of them is mirrored."""
    system = start_system(simulator=_SIMULATOR)
    system.apply(_SPEC)
    system.wait_for("paced", lambda status: status["phase"] == "shadowing")
    shares: list[float] = []
    with users(system, rate=50):
        deadline = time.monotonic() + 60
        while not any(4 <= share <= 25 for share in shares):
            assert time.monotonic() < deadline, shares
            route = system.api.get("/routes/support-bot").json()
            shares += [mirror["percentage"] for mirror in route["mirrors"]]
            time.sleep(0.1)
        system.wait_for("paced", lambda status: status["progress"]["pairs"] >= 10)
    assert shares[0] == 1.0
    transitions = system.api.get("/rollouts/paced/transitions").json()["transitions"]
    assert [each["event"] for each in transitions] == ["start", "shadow"]
