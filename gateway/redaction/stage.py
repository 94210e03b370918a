"""Redaction as the writer's thread and the worker do it: by route, counted, and never in a hurry.

What can't be redacted safely does not reach the store: it ends in the funnel as ``withheld``.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from prometheus_client import CollectorRegistry
from prometheus_client import Counter as CounterMetric

from gateway.batch import Batch, Capture
from gateway.redaction.bodies import Redactor
from gateway.redaction.presidio import load_recogniser
from gateway.redaction.text import Withheld
from gateway.settings import Settings

__all__ = ["Redaction", "RedactionMetrics"]

_log = logging.getLogger("coalmine.gateway")
_BREATH, _WORK = 0.0001, 0.0002
"""Seconds in which the interpreter is left to the event loop, after so many of work or more."""
_UNPACKED = 8
_SMALL = 64 * 1024


class RedactionMetrics:
    """What was replaced and what was withheld, by route and by rule or reason."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._redactions = CounterMetric(
            "coalmine_redactions",
            "Values replaced by a placeholder before anything was stored.",
            ("route", "rule"),
            registry=registry,
        )
        self._withheld = CounterMetric(
            "coalmine_redaction_withheld",
            "Captures and mirrored answers that could not be redacted safely, or may not be kept.",
            ("route", "reason"),
            registry=registry,
        )

    def found(self, route: str, counts: Mapping[str, int]) -> None:
        """Count what was replaced."""
        for rule, count in counts.items():
            self._redactions.labels(route, rule).inc(count)

    def withheld(self, route: str, reason: str) -> None:
        """Count what was withheld."""
        self._withheld.labels(route, reason).inc()


class Redaction:
    """The redactors of all routes. Built again where the settings change.

    Raises :class:`~gateway.errors.SettingsError` where Presidio is wanted and not there.
    """

    def __init__(self, settings: Settings, metrics: RedactionMetrics) -> None:
        self._metrics = metrics
        self._keeps = {
            name: settings.keeps_bodies(name) for name in settings.routes
        }  # of a route that is declared no more nothing is kept but what is asked for generally
        self._keeps_others = settings.store_bodies
        found = settings.redaction.presidio
        recognise = None if found is None else load_recogniser(found)
        self._others = Redactor(settings.redaction, clock=time.thread_time, recognise=recognise)
        self._routes = {
            name: Redactor(
                settings.redaction.for_route(route.redaction),
                clock=time.thread_time,
                recognise=recognise,
            )
            for name, route in settings.routes.items()
        }

    def route(self, name: str) -> Redactor:
        """Return a route's redactor."""
        return self._routes.get(name, self._others)

    def apply(self, batch: Batch, pause: Callable[[float], object]) -> tuple[int, int]:
        """Redact a batch's captures in place; return bytes and count of those withheld.

        ``pause`` is called between captures, with seconds, for others to get their turn.
        """
        kept: list[Capture] = []
        size = 0
        began = time.perf_counter()
        for capture in batch.captures:
            if time.perf_counter() - began >= _WORK:
                pause(_BREATH)
                began = time.perf_counter()
            redacted = self._redacted(capture)
            if redacted is not None:
                kept.append(redacted)
                continue
            size += capture.size
            for rollout_id, stream in capture.pairs:
                batch.funnel[rollout_id, stream, "pending"] -= 1
                batch.funnel[rollout_id, stream, "withheld"] += 1
        count = len(batch.captures) - len(kept)
        batch.captures = kept
        return size, count

    def _redacted(self, capture: Capture) -> Capture | None:
        route = capture.route
        redactor = self.route(route)
        keeps = self._keeps.get(route, self._keeps_others)
        if not redactor.active:
            return capture if keeps else replace(capture, store_bodies=False)
        try:
            redacted = redactor.capture(
                capture.request_body,
                capture.response_body,
                capture.content_encoding,
                limit=_UNPACKED * max(len(capture.response_body), _SMALL),
                segment=capture.segment,
                risk=capture.risk,
            )
        except Withheld as refusal:
            self._metrics.withheld(route, refusal.reason)
            return None
        except Exception as error:  # noqa: BLE001 - what can't be redacted is not kept
            _log.error("route %s: a capture can't be redacted (%s)", route, type(error).__name__)
            self._metrics.withheld(route, "failed")
            return None
        if not redacted.found and keeps == capture.store_bodies:
            return capture
        self._metrics.found(route, redacted.found)
        return replace(
            capture,
            request_body=redacted.request,
            response_body=redacted.response,
            content_encoding=redacted.encoding,
            segment=redacted.segment,
            risk=redacted.risk,
            store_bodies=keeps,
        )

    def mirrored(self, route: str, request: str, body: str) -> str:
        """Return the other arm's answer redacted, and count. Raises :class:`Withheld`."""
        found: Counter[str]
        try:
            answer, found = self.route(route).mirrored(request, body)
        except Withheld as refusal:
            self._metrics.withheld(route, refusal.reason)
            raise
        except Exception as error:  # noqa: BLE001 - what can't be redacted is not kept
            _log.error("route %s: an answer can't be redacted (%s)", route, type(error).__name__)
            self._metrics.withheld(route, "failed")
            raise Withheld("failed") from None
        self._metrics.found(route, found)
        return answer

    def plain(self, route: str, text: str) -> str:
        """Return a text redacted that is no answer, such as an error's message."""
        try:
            return self.route(route).text(text)[0]
        except Withheld:
            return ""
