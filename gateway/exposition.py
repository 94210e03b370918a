"""``/metrics``: of a process on its own, or of several that share the gateway's port.

Several processes are scraped as one. Each holds an end of a pipe and sends its metrics when asked;
the parent has the other ends, serves ``metrics_port`` and adds up. What a process counted before it
died stays in the sums, so that a counter never goes back, and one that does not answer in time is
shown by what it said last.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import msgspec
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.errors import SettingsError
from gateway.merging import Families, decode, encode, lasting, merge, show, take
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings

__all__ = ["Gathering", "Member", "answer_scrapes", "serve_metrics"]

_log = logging.getLogger("coalmine.gateway")
_PATIENCE = 2.0
"""Seconds that a scrape waits for a process; Prometheus itself gives up after several."""


@contextmanager
def serve_metrics(
    options: GatewaySettings, registry: CollectorRegistry
) -> Iterator[tuple[str, int]]:
    """Serve ``registry`` on ``metrics_port`` in a thread; gives host and port.

    Raises :class:`SettingsError` where the port can't be had.
    """
    host, port = options.metrics_host, options.metrics_port
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(
            f"can't listen on {host} port {port}: {error.strerror}", field="gateway.metrics_port"
        ) from None
    _log.info("metrics on %s port %d", host, server.server_port)
    try:
        yield host, server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def answer_scrapes(registry: CollectorRegistry, pipe: Connection) -> Iterator[None]:
    """Send ``registry`` through ``pipe`` whenever the parent asks, in a thread.

    It is also sent on entering, which tells the parent that this process serves (and takes
    signals), and on leaving, so that what was counted last is not lost.
    """
    thread = threading.Thread(
        target=_answer, args=(registry, pipe), name="coalmine-metrics", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError), _socket_of(pipe) as end:
            end.shutdown(socket.SHUT_RD)  # the thread reads the end of the pipe
        thread.join(_PATIENCE)
        pipe.close()


def _socket_of(pipe: Connection) -> socket.socket:
    return socket.fromfd(pipe.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)


def _answer(registry: CollectorRegistry, pipe: Connection) -> None:
    data = encode(())
    asked = True
    with suppress(OSError):  # the parent is gone, and this process about to follow
        while True:
            try:
                data = encode(take(registry.collect()))
            except Exception:  # noqa: BLE001 - one bad reading must not end all that follow
                _log.exception("could not read the metrics; sending the last ones again")
            pipe.send_bytes(data)
            if not asked:
                return
            try:
                pipe.recv_bytes()
            except EOFError:
                asked = False


class Member:
    """A process among several, as their parent sees it; ``far`` is the pipe's end to give it."""

    def __init__(self) -> None:
        self.near, self.far = Pipe()
        self.families: Families | None = None
        """What it said last; ``None`` before it serves."""
        self.asked_until: float | None = None
        """Until when a scrape waits for its answer; ``None`` while it owes none."""

    @property
    def serves(self) -> bool:
        """Whether it has entered :func:`answer_scrapes`, and lives."""
        return self.families is not None

    def ask(self, until: float) -> None:
        """Ask for its metrics, unless it has yet to answer: so a pipe never fills up."""
        if not self.serves or self.asked_until is not None:
            return
        self.asked_until = until
        with suppress(OSError):  # it died; the thread that reads from it is about to find out
            self.near.send_bytes(b"scrape")


class Gathering(Collector):
    """The metrics of several processes as one, and ``coalmine_gateway_processes``.

    A scrape waits ``patience`` seconds for all of them.
    """

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._members: list[Member] = []
        self._gone: Families = ()
        self._changed = threading.Condition()

    def add(self) -> Member:
        """Return a new member, to whom a process is to be given."""
        member = Member()
        with self._changed:
            self._members.append(member)
        threading.Thread(
            target=self._read, args=(member,), name="coalmine-metrics", daemon=True
        ).start()
        return member

    def describe(self) -> list[Metric]:
        """Return the families that there can be, without samples."""
        registry = CollectorRegistry()
        GatewayMetrics(registry)
        return [*registry.collect(), self._processes(0)]

    def collect(self) -> list[Metric]:
        """Ask all members that serve, wait for them, and return the families merged."""
        with self._changed:
            until = time.monotonic() + self._patience
            for member in self._members:
                member.ask(until)
            self._await_answers()
            told = [member.families for member in self._members if member.families is not None]
            gone = self._gone
        return [*show(merge([*told, gone])), self._processes(len(told))]

    def _await_answers(self) -> None:
        now = time.monotonic()
        # One that is late already has kept an earlier scrape waiting; it will not keep them all.
        expected = [m for m in self._members if m.asked_until is not None and m.asked_until > now]
        if expected:
            patience = max(m.asked_until or now for m in expected) - now
            self._changed.wait_for(lambda: all(m.asked_until is None for m in expected), patience)

    def _read(self, member: Member) -> None:
        with suppress(EOFError, OSError, msgspec.DecodeError):
            while True:
                families = decode(member.near.recv_bytes())
                with self._changed:
                    member.families, member.asked_until = families, None
                    self._changed.notify_all()
        with self._changed:
            self._members.remove(member)
            self._gone = merge([self._gone, lasting(member.families or ())])
            member.families = member.asked_until = None
            self._changed.notify_all()
        member.near.close()

    @staticmethod
    def _processes(count: int) -> Metric:
        return GaugeMetricFamily(
            "coalmine_gateway_processes", "Gateway processes that share the port.", count
        )
