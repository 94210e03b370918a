"""Reading the Prometheus queries of running rollouts, as long as this process leads.

What a counter grew by between two readings under one weight is one fact. Readings are kept in
memory: after a restart, a change of the leader or of the weight, the first reading only says where
to count from, so that nothing is counted twice and no count straddles a change. A server that does
not answer is missing data for a counter, and an error for a threshold.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from gateway.errors import CoalmineError, Conflict, StoreError
from gateway.settings import Settings
from gateway.split import Split
from gateway.store.engine import Store
from gateway.store.evidence import Evidence, append_evidence
from gateway.store.splits import load_split
from gateway.store.tables import RolloutRow
from rollout.lease import Lease
from rollout.prometheus import Prometheus
from rollout.queries import ARMS, Counter, Reading, advance, fill, read_number
from rollout.spec import MetricSpec, RolloutSpec, load_spec
from rollout.spec_sources import PrometheusSource
from rollout.states import ACTIVE, Phase

__all__ = ["Poller"]

_log = logging.getLogger(__name__)

_WATCHED = [phase.value for phase in ACTIVE if phase is not Phase.PREFLIGHT]


@dataclass(frozen=True, slots=True)
class _Watched:
    """A rollout with queries, and the split of its route."""

    id: int
    name: str
    route: str
    spec: RolloutSpec
    queries: tuple[tuple[MetricSpec, PrometheusSource], ...]
    split: Split | None

    @property
    def traffic(self) -> tuple[int, int] | None:
        """Epoch and weight of its live traffic, or ``None`` while it has none."""
        return _traffic(self.split, self.id)


_Held = tuple[tuple[int, int], Counter]


class Poller:
    """Reads the queries of all running rollouts and appends what they say to the evidence.

    ``lease`` is the controller's: without it nothing is read, and what was read is only written
    while it is held. ``clock`` returns Unix seconds; ``environ`` holds the token.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        lease: Lease,
        clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._control = settings.control
        self._lease = lease
        self._clock = clock
        self._environ = os.environ if environ is None else environ
        self._server: Prometheus | None = None
        self._token: int | None = None
        self._counters: dict[tuple[int, str], _Held] = {}
        self._since: dict[int, tuple[tuple[int, int], float]] = {}
        self._failing: set[tuple[int, str]] = set()

    def poll(self, now: float | None = None) -> int:
        """Read every query once and return how many facts came of it. ``now`` is Unix seconds.

        Raises :class:`StoreError`.
        """
        now = self._clock() if now is None else now
        token = self._lease.token
        if token != self._token:  # what another leader has counted since is not known here
            self._forget()
            self._token = token
        if token is None or self._control.prometheus_url is None:
            return 0
        if self._server is None:
            secret = self._control.prometheus_token(self._environ)
            self._server = Prometheus(
                self._control.prometheus_url,
                token=secret.get_secret_value() if secret else None,
                timeout=self._control.prometheus_timeout,
            )
        self._server.begin()
        with self._store.read() as session:
            watched = _watched(session)
        self._keep_only({each.id for each in watched})
        written = 0
        for each in watched:
            try:
                written += self._look_at(self._server, each, token, now)
            except Conflict:
                self._forget()
                break
            except StoreError:
                self._drop(each.id)  # it may have been committed: count from the next reading
                raise
        return written

    def close(self) -> None:
        """Close the connection to Prometheus."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _look_at(self, server: Prometheus, each: _Watched, token: int, now: float) -> int:
        thresholds: list[Evidence] = []
        counts: list[Evidence] = []
        counters: dict[tuple[int, str], _Held] = {}
        settled = self._has_settled(each, now)
        for metric, source in each.queries:
            if source.query is not None:
                thresholds.append(self._threshold(server, each, metric.name, source, now))
            elif settled and each.traffic is not None:
                reading = self._reading(server, each, metric.name, source, now)
                if reading is None:
                    continue
                key = each.id, metric.name
                counter, fact = self._counted(each.traffic, key, reading)
                counters[key] = each.traffic, counter
                counts += [] if fact is None else [fact]
        if thresholds or counters:
            with self._store.write() as session:
                if self._lease.guard(session) != token:
                    raise Conflict("another controller has led in between")
                split = load_split(session, each.route)
                if _traffic(split, each.id) != each.traffic:
                    counts, counters = [], {}
                if thresholds or counts:
                    append_evidence(self._store, session, each.id, [*thresholds, *counts])
        self._counters |= counters
        return len(thresholds) + len(counts)

    def _has_settled(self, each: _Watched, now: float) -> bool:
        """Say whether what is in Prometheus happened under the present weight alone."""
        if each.traffic is None or each.split is None:
            self._drop(each.id)
            return False
        known = self._since.get(each.id)
        if known is None or known[0] != each.traffic:
            self._drop(each.id)
            known = self._since[each.id] = each.traffic, each.split.updated_at
        return now >= known[1] + self._control.prometheus_delay

    def _threshold(
        self, server: Prometheus, each: _Watched, name: str, source: PrometheusSource, now: float
    ) -> Evidence:
        query = fill(str(source.query), _variables(each, "candidate"))
        value, error = read_number(server.ask(query, now))
        self._report(each, name, error)
        payload = {
            "metric": name,
            "value": value,
            "breached": value is not None and source.breached(value),
            "error": error,
        }
        return Evidence("query", now, payload, epoch=each.split.epoch if each.split else 0)

    def _reading(
        self, server: Prometheus, each: _Watched, name: str, source: PrometheusSource, now: float
    ) -> Reading | None:
        found: dict[str, dict[str, Mapping[str, float]]] = {"requests": {}, "failures": {}}
        for arm in ARMS:
            variables = _variables(each, arm)
            for kind, query in (("requests", source.requests), ("failures", source.failures)):
                answer = server.ask(fill(str(query), variables), now)
                if answer.error is not None:
                    self._report(each, name, answer.error)
                    return None
                found[kind][arm] = answer.series
        missing = None if any(found["requests"].values()) else "no series counts its requests"
        self._report(each, name, missing)
        return Reading(now, found["requests"], found["failures"])

    def _counted(
        self, traffic: tuple[int, int], key: tuple[int, str], reading: Reading
    ) -> tuple[Counter, Evidence | None]:
        held = self._counters.get(key)
        if held is None or held[0] != traffic:
            return Counter.start(reading), None
        counter, counts = advance(held[1], reading)
        if counts is None:
            return counter, None
        epoch, weight_bp = traffic
        payload: dict[str, Any] = {
            "metric": key[1],
            "weight_bp": weight_bp,
            "seconds": counts.seconds,
            "arms": {
                arm: {"requests": requests, "failures": failures}
                for arm, (requests, failures) in counts.arms.items()
            },
        }
        return counter, Evidence("query", reading.at, payload, epoch=epoch)

    def _report(self, each: _Watched, name: str, error: str | None) -> None:
        """Log the first of several failures of a query, and that it works again."""
        key = each.id, name
        if error is not None and key not in self._failing:
            self._failing.add(key)
            _log.warning("rollout %s, metric %s: %s", each.name, name, error)
        elif error is None and key in self._failing:
            self._failing.discard(key)
            _log.info("rollout %s, metric %s: its queries are answered again", each.name, name)

    def _drop(self, rollout_id: int) -> None:
        self._since.pop(rollout_id, None)
        for key in [key for key in self._counters if key[0] == rollout_id]:
            del self._counters[key]

    def _keep_only(self, ids: set[int]) -> None:
        for gone in {key[0] for key in self._counters} | self._since.keys():
            if gone not in ids:
                self._drop(gone)
        self._failing = {key for key in self._failing if key[0] in ids}

    def _forget(self) -> None:
        self._counters.clear()
        self._since.clear()


def _watched(session: Session) -> list[_Watched]:
    """Return the running rollouts that have queries."""
    query = select(RolloutRow.id, RolloutRow.name, RolloutRow.route, RolloutRow.spec)
    rows = session.exec(
        query.where(col(RolloutRow.phase).in_(_WATCHED)).order_by(col(RolloutRow.id))
    ).all()
    found = []
    for number, name, route, document in rows:
        try:
            spec = load_spec(document)
        except CoalmineError:  # of another version; the controller says so
            continue
        queries = tuple(
            (metric, metric.source.prometheus)
            for metric in spec.analysis.metrics
            if metric.source is not None and metric.source.prometheus is not None
        )
        if queries:
            split = load_split(session, route)
            found.append(_Watched(int(number or 0), name, route, spec, queries, split))
    return found


def _traffic(split: Split | None, rollout_id: int) -> tuple[int, int] | None:
    if split is None or split.rollout_id != rollout_id or not split.weight_bp:
        return None
    return split.epoch, split.weight_bp


def _variables(each: _Watched, arm: str) -> dict[str, str]:
    candidate = each.spec.candidate.deployment
    baseline = each.split.baseline if each.split is not None else ""
    return {
        "variant": arm,
        "deployment": candidate if arm == "candidate" else baseline,
        "route": each.route,
        "rollout": each.name,
    }
