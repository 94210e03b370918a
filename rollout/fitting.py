"""Whether a spec fits the settings and the past: routes, deployments, judge, former rollbacks."""

from __future__ import annotations

from sqlmodel import Session, col, select

from gateway.errors import SettingsError, SpecError
from gateway.settings import Settings
from gateway.settings_review import RouteReview
from gateway.split import Split
from gateway.store.splits import load_split
from gateway.store.tables import RolloutRow
from rollout.records import Record
from rollout.spec import RolloutSpec
from rollout.states import Phase
from rollout.steps import plan
from rollout.traffic import effective_baseline
from shadow.judge import refuse_self_judging

__all__ = ["changed_arms", "fitting_baseline", "is_latched", "warnings_about"]


def fitting_baseline(session: Session, settings: Settings, spec: RolloutSpec) -> str:
    """Return the baseline that the candidate would be compared with.

    Raises :class:`SpecError`, naming the field, where the spec does not fit the settings.
    """
    route = settings.routes.get(spec.route)
    if route is None:
        known = ", ".join(sorted(settings.routes)) or "none"
        raise SpecError(f"no route is called {spec.route!r}; declared are: {known}", field="route")
    candidate = spec.candidate.deployment
    if candidate not in settings.deployments:
        known = ", ".join(sorted(settings.deployments)) or "none"
        raise SpecError(
            f"no deployment is called {candidate!r}; declared are: {known}",
            field="candidate.deployment",
        )
    split = load_split(session, spec.route)
    baseline = effective_baseline(split, spec.route, settings.routes)
    if baseline == candidate:
        raise SpecError(
            f"{candidate!r} is the baseline of route {spec.route!r} already",
            field="candidate.deployment",
        )
    try:
        refuse_self_judging(settings, baseline=baseline, candidate=candidate)
    except SettingsError as error:
        raise SpecError(error.message, field="candidate.deployment") from None
    if spec.analysis.segments and route.segment is None:
        raise SpecError(
            f"route {spec.route!r} declares no segment; set routes.{spec.route}.segment",
            field="analysis.segments",
        )
    if settings.control.prometheus_url is None:
        _refuse_queries(spec)
    return baseline


def _refuse_queries(spec: RolloutSpec) -> None:
    for index, metric in enumerate(spec.analysis.metrics):
        if metric.source is not None and metric.source.prometheus is not None:
            raise SpecError(
                f"{metric.name} is read from Prometheus, and the settings name none; set "
                "control.prometheus_url",
                field=f"analysis.metrics.{index}.source.prometheus",
            )


def warnings_about(settings: Settings, spec: RolloutSpec) -> tuple[str, ...]:
    """Return, in sentences, what will keep a valid spec from ever being proven."""
    warnings = []
    metric = spec.metric("judge_win_rate")
    if metric is not None and metric.is_guardrail and settings.judge is None:
        warnings.append(
            "judge_win_rate is a guardrail but no judge is set, so it can't be proven: "
            "set judge, or leave the metric out"
        )
    if metric is not None and metric.min_human_labels:
        warnings += _about_labels(settings, spec, metric.min_human_labels)
    if any(step.kind == "preflight" for step in plan(spec)):
        warnings.append("preflight has no offline report yet: it will wait for an approval")
    return tuple(warnings)


def _about_labels(settings: Settings, spec: RolloutSpec, asked: int) -> list[str]:
    """Return what keeps people from giving the labels that a spec asks for."""
    route = settings.routes.get(spec.route)
    review = (route.review if route is not None else None) or RouteReview()
    where = f"routes.{spec.route}.review.weekly_quota"
    if not review.weekly_quota:
        return [f"judge_win_rate asks for {asked} human labels and {where} is 0: none will come"]
    said = f"judge_win_rate asks for {asked} human labels: `coalmine review {spec.name}`"
    warnings = [f"{said} asks people, and until they have said so much it is not proven"]
    if review.weekly_quota < asked:
        weeks = -(-asked // review.weekly_quota)
        warnings.append(
            f"{where} lets {review.weekly_quota} pairs a week be drawn, so {asked} human labels "
            f"take {weeks} weeks"
        )
    return warnings


def is_latched(session: Session, record: Record) -> bool:
    """Say whether this candidate revision was rolled back on this route when it last ran."""
    query = (
        select(RolloutRow.phase)
        .where(
            RolloutRow.route == record.route,
            RolloutRow.candidate_revision == record.candidate_revision,
            RolloutRow.id != record.id,
            col(RolloutRow.phase).not_in([Phase.PENDING.value, Phase.SUPERSEDED.value]),
        )
        .order_by(col(RolloutRow.id).desc())
        .limit(1)
    )
    phase = session.exec(query).first()
    return phase in {Phase.ROLLED_BACK.value, Phase.ROLLING_BACK.value}


def changed_arms(split: Split | None, settings: Settings, record: Record) -> tuple[str, str] | None:
    """Return why the evidence is about other models than those that would serve, if it is.

    The first is the word for a pause's reason, the second a sentence.
    """
    candidate = record.spec.candidate.deployment
    declared = settings.deployments.get(candidate)
    if declared is None or declared.revision() != record.candidate_revision:
        return (
            "candidate_changed",
            f"deployment {candidate!r} has changed since the rollout was applied: apply it again",
        )
    if record.route not in settings.routes:
        return "baseline_changed", f"the settings declare no route {record.route!r} any more"
    baseline = effective_baseline(split, record.route, settings.routes)
    known = settings.deployments.get(baseline)
    if known is None or baseline != record.baseline or known.revision() != record.baseline_revision:
        message = (
            f"the baseline is not what the candidate is compared with, {record.baseline!r}; "
            "apply the rollout again"
        )
        return "baseline_changed", message
    return None
