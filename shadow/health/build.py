"""The watch over the judge's health, put together from the settings."""

from __future__ import annotations

from collections.abc import Callable

from gateway.settings import Settings
from gateway.store.engine import Store
from shadow.health.anchors import read_anchors
from shadow.health.watch import Examined, HealthWatch, Subject
from shadow.judge import Comparer
from shadow.judge.rubrics import Rubric, read_rubrics

__all__ = ["build_watch"]


def build_watch(
    settings: Settings,
    store: Store,
    judge: Comparer | None,
    *,
    rubric: str,
    worker: str,
    clock: Callable[[], float],
    told: Callable[[Examined], None],
) -> HealthWatch | None:
    """Return the watch, or None where no judge is declared or its health is not examined.

    `rubric` is the default one's words, `worker` who claims windows. Raises `SettingsError` for
    anchors or a rubric that can't be read.
    """
    declared = settings.judge
    if declared is None or judge is None or not declared.health.enabled:
        return None
    rubrics = read_rubrics(settings)
    if rubric != rubrics.default.text:
        rubrics = read_rubrics(settings, Rubric("given", rubric))
    asked, name = judge.uncached(), _name(settings)

    def subject(route: str) -> Subject:
        return Subject(asked, name, rubrics.of(route).digest)

    return HealthWatch(
        store,
        settings,
        subjects=subject,
        anchors=read_anchors(declared.health.anchors),
        rules=declared.health,
        worker=worker,
        clock=clock,
        told=told,
    )


def _name(settings: Settings) -> str:
    """Return what tells this judge from another: its stages, and their deployments' revisions."""
    declared = settings.judge
    if declared is None:
        return ""
    stages = [
        f"{field}={name}@{settings.deployments[name].revision()}"
        for field, name in sorted(declared.deployments().items())
    ]
    first = declared.first_stage
    if first is not None and first.local is not None:
        stages.append(f"local={first.local.path}")
    return " ".join(stages)
