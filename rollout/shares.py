"""Live evidence with the shares of requests that came, rather than those that were declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from rollout.evidence import OVERALL, EvidenceState
from rollout.observations import counted_in_windows
from rollout.spec import MetricSpec, RolloutSpec
from rollout.statistics import LiveState

__all__ = ["live_states", "realised", "swapped", "towards_harm"]

_PRIOR_REQUESTS = 200.0


def live_states(
    evidence: EvidenceState, spec: RolloutSpec, metric: MetricSpec
) -> dict[str, LiveState]:
    """Return a metric's live evidence by segment, each with the shares that came.

    Whether an outcome is posted may depend on the arm: of failures alone, those of a worse
    candidate would look like more of its requests. So over all segments the shares are those of
    the requests that gateways counted, where the spec has a metric that they count.
    """
    found = {name: realised(state) for name, state in evidence.metrics[metric.name].live.items()}
    if OVERALL in found and metric.source is not None and metric.source.outcome is not None:
        drawn = _drawn(evidence, spec)
        live = evidence.metrics[metric.name].live[OVERALL]
        if all(window.share in drawn for window in live.windows):
            windows = tuple(each._replace(share=drawn[each.share]) for each in live.windows)
            found[OVERALL] = replace(live, windows=windows)
    return found


@lru_cache(maxsize=4096)
def realised(live: LiveState) -> LiveState:
    """Return the live state with each share corrected by the share of requests that came.

    With sticky keys it is users that are drawn by the weight, and their requests travel together:
    of few or very unequal users the candidate gets more or less than its weight for as long as
    they stay. A failure's chance to be the candidate's is then the realised share; counting with
    the weight would find harm, or miss it, where there are only busier users. The weight counts
    like 200 requests, so that it rules the first moments.
    """
    return replace(
        live,
        windows=tuple(
            window._replace(
                share=(window.candidate_requests + _PRIOR_REQUESTS * window.share)
                / (window.requests + _PRIOR_REQUESTS)
            )
            for window in live.windows
        ),
    )


def swapped(live: LiveState) -> LiveState:
    """Return the live evidence with the arms changed about: the baseline's failures are the harm.

    For a metric of which a decrease is harm, such as refusals. The rare event stays the failure, by
    which the bets live: the candidate's lack of it would hardly be seen. It keeps the capital that
    it started with.
    """
    return replace(
        live,
        windows=tuple(
            window._replace(
                share=1 - window.share,
                candidate_requests=window.requests - window.candidate_requests,
                candidate_failures=window.failures - window.candidate_failures,
            )
            for window in live.windows
        ),
    )


def towards_harm(live: LiveState, metric: MetricSpec) -> tuple[LiveState, ...]:
    """Return the live evidence in each direction that is harm, first the one that pairs carry on.

    Where both are, the second starts without capital from shadow.
    """
    match metric.direction:
        case "increase":
            return (live,)
        case "decrease":
            return (swapped(live),)
        case "both":
            return (live, replace(swapped(live), start_log_e=0.0))


def _drawn(evidence: EvidenceState, spec: RolloutSpec) -> Mapping[float, float]:
    """Return the share of requests that came for each declared share, by gateways' counts."""
    for metric in spec.analysis.metrics:
        live = evidence.metrics[metric.name].live.get(OVERALL)
        if live is not None and live.n and counted_in_windows(metric):
            pairs = zip(live.windows, realised(live).windows, strict=True)
            return {declared.share: came.share for declared, came in pairs}
    return {}
