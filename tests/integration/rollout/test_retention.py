"""The leading control removes what is over; one that follows leaves it alone."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from sqlmodel import select

from gateway.settings import Settings
from gateway.store import Store
from gateway.store.tables import CaptureRow
from rollout.feeding import FedController

DAY = 86400.0


@pytest.fixture
def old_capture(store: Store) -> None:
    """A capture of yesterday."""
    with store.write() as session:
        session.add(
            CaptureRow(
                id="c", route="bot", request_id="r", created_at=1000.0, endpoint="/x",
                variant="baseline", reason="split", deployment="b", stream=False,
                request_body="{}", response_body="{}", status=200, total_s=1.0, split_revision=1,
                epoch=0, weight_bp=0,
            )
        )  # fmt: skip


def fed(store: Store, token: int | None) -> FedController:
    """Build what feeds a controller that leads, or follows."""
    settings = Settings.model_validate({"retention": {"bodies": "1h", "captures": "1d"}})
    controller: Any = SimpleNamespace(lease=SimpleNamespace(token=token))
    return FedController(store, settings, controller, clock=lambda: 1001.0 + DAY)


def left(store: Store) -> int:
    """Count the captures."""
    with store.read() as session:
        return len(session.exec(select(CaptureRow)).all())


@pytest.mark.parametrize(("token", "expected"), [(None, 1), (7, 0)])
def test_only_the_leader_sweeps(
    store: Store, old_capture: None, token: int | None, expected: int
) -> None:
    """By a thread of its own that starts with control."""
    feeds = {feed._name: feed for feed in fed(store, token)._feeds}
    feed = feeds["coalmine-retention"]
    if token is None:
        feed._work()
    else:
        feed.start()
        deadline = time.monotonic() + 20
        while left(store):
            assert time.monotonic() < deadline, "nothing was removed in time"
            time.sleep(0.005)
        feed.stop()
    assert left(store) == expected


def test_settings_are_durations_in_order() -> None:
    """A body can't outlive its capture, and the error says so."""
    retention = Settings.model_validate({"retention": {"bodies": "2h"}}).retention
    assert (retention.bodies, retention.captures, retention.evidence) == (7200.0, 90 * DAY, None)
    with pytest.raises(ValueError, match="longer than captures"):
        Settings.model_validate({"retention": {"bodies": "100d"}})
    with pytest.raises(ValueError, match="greater than 0"):
        Settings.model_validate({"retention": {"judge_cache": 0}})
