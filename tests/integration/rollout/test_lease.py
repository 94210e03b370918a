"""The lease and its fencing token, by the store's own clock."""

from __future__ import annotations

import pytest

from gateway.errors import Conflict
from gateway.store import Store
from gateway.store.tables import LeaseRow
from rollout.lease import CONTROLLER, Lease


def _expire(store: Store) -> None:
    with store.write() as session:
        row = session.get(LeaseRow, CONTROLLER)
        assert row is not None
        row.expires_at = 0.0
        session.add(row)


def test_one_holder_at_a_time(store: Store) -> None:
    """While a lease runs nobody else gets it, and its holder renews it with the same token."""
    first, second = Lease(store, holder="a", ttl=60), Lease(store, holder="b", ttl=60)
    assert first.acquire()
    token = first.token
    assert not second.acquire()
    assert first.acquire()
    assert first.token == token


def test_token_grows_with_every_change_of_holder(store: Store) -> None:
    """Whoever takes an expired lease over gets a larger token than anybody had before."""
    first, second = Lease(store, holder="a", ttl=60), Lease(store, holder="b", ttl=60)
    tokens = []
    for lease in (first, second, first, first):
        assert lease.acquire()
        tokens.append(lease.token)
        _expire(store)
    assert tokens == sorted(set(tokens))


def test_former_holder_is_fenced(store: Store) -> None:
    """Inside its transaction the former leader learns that it leads no more."""
    first, second = Lease(store, holder="a", ttl=60), Lease(store, holder="b", ttl=60)
    assert first.acquire()
    _expire(store)
    with store.write() as session, pytest.raises(Conflict):
        first.guard(session)
    assert second.acquire()
    with store.write() as session, pytest.raises(Conflict):
        first.guard(session)
    with store.write() as session:
        assert second.guard(session) == second.token


def test_released_lease_is_free_at_once(store: Store) -> None:
    """A clean stop hands over without waiting for the end of the lease."""
    first, second = Lease(store, holder="a", ttl=60), Lease(store, holder="b", ttl=60)
    assert first.acquire()
    first.release()
    assert second.acquire()
    first.release()
    with store.write() as session:
        assert second.guard(session) == second.token


def test_lease_of_a_restarted_process_with_the_same_name_is_a_new_one(store: Store) -> None:
    """A new process never inherits a lease by its name alone."""
    assert Lease(store, holder="a", ttl=60).acquire()
    assert not Lease(store, holder="a", ttl=60).acquire()
