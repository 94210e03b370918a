"""What a rollout's labels say of its judge, and of the people who gave them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rollout.statistics.agreement import (
    cohen_kappa,
    confusion,
    gwet_ac1,
    krippendorff_alpha,
    observed_agreement,
    spearman,
)
from rollout.statistics.harms import Stratum, harm_bound

__all__ = ["Labelled", "agreement_of", "harms_of", "verdict_of"]

_CLASSES = 3
_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Labelled:
    """A settled item: the people's label, each person's, and what the judge said.

    ``score`` in [0, 1] and ``lead`` (its pointwise scores, candidate minus baseline) are the
    judge's. ``harmful``: somebody marked the candidate's answer, or both, as a harm.
    """

    segment: str | None
    source: str
    probability: float
    label: float
    opinions: tuple[float, ...]
    score: float | None
    lead: float | None
    harmful: bool


def verdict_of(score: float) -> float:
    """Return a judge's score as a label: leans count as wins and losses."""
    return 0.5 if score == 0.5 else float(score > 0.5)


def agreement_of(labelled: Sequence[Labelled]) -> dict[str, Any]:
    """Return agreement of judge and people, over all and by segment, and among people.

    Judge and people: items weigh 1/π, so that the figures are those of all pairs; ``confusion``
    counts items as they are, by judge and then by people.
    """
    judged = [each for each in labelled if each.score is not None]
    segments = sorted({each.segment for each in judged if each.segment is not None})
    tables = [_beside(None, judged)]
    tables += [_beside(name, [e for e in judged if e.segment == name]) for name in segments]
    several = [each.opinions for each in labelled if len(each.opinions) > 1]
    scored = [(each.lead, each.label) for each in labelled if each.lead is not None]
    return {
        "judge_and_people": tables,
        "people": {"items": len(several), "krippendorff_alpha": krippendorff_alpha(several)},
        "scores": {
            "items": len(scored),
            "spearman": spearman([lead for lead, _ in scored], [label for _, label in scored]),
        },
    }


def harms_of(labelled: Sequence[Labelled], *, flagged: int, pairs: int) -> dict[str, Any]:
    """Return how often people marked a harm, with an upper bound by the judge's flag.

    Only items drawn at random count, for they alone were drawn with one probability. A pair is
    flagged where the judge prefers the baseline: ``flagged`` of all ``pairs``.
    """
    drawn = [e for e in labelled if e.source == "random" and e.score is not None]
    share = flagged / pairs if pairs else 0.0
    strata = []
    for flag, part in ((True, share), (False, 1 - share)):
        mine = [e for e in drawn if (e.score is not None and e.score < 0.5) is flag]
        strata.append(Stratum(sum(e.harmful for e in mine), len(mine), part))
    return {
        "harms": sum(each.harms for each in strata),
        "labels": len(drawn),
        "flagged_share": share,
        "upper": harm_bound(strata, _ALPHA),
    }


def _beside(segment: str | None, labelled: Sequence[Labelled]) -> dict[str, Any]:
    pairs = [(verdict_of(each.score or 0.0), each.label) for each in labelled]
    weighted = confusion(pairs, [1 / each.probability for each in labelled])
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (judge, label), count in sorted(confusion(pairs).items(), key=str):
        counts[f"{judge:g}"][f"{label:g}"] = int(count)
    return {
        "segment": segment,
        "items": len(labelled),
        "observed": observed_agreement(weighted),
        "cohen_kappa": cohen_kappa(weighted),
        "gwet_ac1": gwet_ac1(weighted, _CLASSES),
        "confusion": dict(counts),
    }
