"""Agreement beyond chance: between a judge and people, and among people.

Weights, where they are given, count an item as so many; pairs drawn with probability π weigh 1/π.
Categories are compared as names: that ½ lies between 0 and 1 plays no part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import sqrt

__all__ = [
    "Table",
    "cohen_kappa",
    "confusion",
    "gwet_ac1",
    "krippendorff_alpha",
    "observed_agreement",
    "spearman",
]

Table = Mapping[tuple[Hashable, Hashable], float]
"""How often (weighted) the first said one category while the second said another."""


def confusion(
    pairs: Iterable[tuple[Hashable, Hashable]], weights: Iterable[float] | None = None
) -> dict[tuple[Hashable, Hashable], float]:
    """Return the table of two raters' verdicts on the same items, each weight 1 by default.

    Raises ``ValueError`` where pairs and weights are not equally many.
    """
    found: defaultdict[tuple[Hashable, Hashable], float] = defaultdict(float)
    if weights is None:
        for pair in pairs:
            found[pair] += 1.0
    else:
        for pair, weight in zip(pairs, weights, strict=True):
            found[pair] += weight
    return dict(found)


def observed_agreement(table: Table) -> float | None:
    """Return the share of items on which both said the same; ``None`` without items."""
    total = sum(table.values())
    if not total:
        return None
    return sum(count for (one, other), count in table.items() if one == other) / total


def cohen_kappa(table: Table) -> float | None:
    """Cohen's kappa: (p - q) / (1 - q), with q = Σ over categories of the product of both shares.

    1 is full agreement, 0 what chance gives, by each rater's own habits. ``None`` without items,
    and where both always say the same one thing: then chance explains everything.

    Source: Cohen 1960, Educational and Psychological Measurement 20(1).
    """
    agreed = observed_agreement(table)
    if agreed is None:
        return None
    first, second = _shares(table)
    chance = sum(share * second.get(name, 0.0) for name, share in first.items())
    return None if chance >= 1 - 1e-12 else (agreed - chance) / (1 - chance)


def gwet_ac1(table: Table, categories: int) -> float | None:
    """Gwet's AC1: (p - q) / (1 - q), with q = Σ π(1 - π) / (K - 1), π the mean of both shares.

    Stays sensible where nearly all items are of one category, where kappa falls towards 0.
    ``categories`` is K, how many could have been said, 2 or more. ``None`` without items.

    Source: Gwet 2008, British Journal of Mathematical and Statistical Psychology 61(1).
    Raises ``ValueError`` for fewer than two categories.
    """
    if categories < 2:
        raise ValueError(f"categories must be 2 or more, not {categories}")
    agreed = observed_agreement(table)
    if agreed is None:
        return None
    first, second = _shares(table)
    means = [(first.get(name, 0.0) + second.get(name, 0.0)) / 2 for name in {*first, *second}]
    chance = sum(mean * (1 - mean) for mean in means) / (categories - 1)
    return (agreed - chance) / (1 - chance)


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for nominal data: 1 - D_observed / D_expected.

    Each unit is what its raters said, however many they were; units with fewer than two say
    nothing. With o the coincidences, each ordered pair in a unit of m values counting 1/(m - 1),
    n_c their sums by category and n in all: alpha = 1 - (n - 1) · (n - Σ o_cc) / (n² - Σ n_c²).
    ``None`` where nothing was said twice, or nothing but one category was said.

    Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability.
    """
    sums: Counter[Hashable] = Counter()
    agreed = total = 0.0
    for unit in units:
        if len(unit) < 2:
            continue
        counts = Counter(unit)
        sums.update(counts)
        total += len(unit)
        agreed += sum(count * (count - 1) for count in counts.values()) / (len(unit) - 1)
    expected = total * total - sum(count * count for count in sums.values())
    return None if not expected else 1 - (total - 1) * (total - agreed) / expected


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank.

    ``None`` below two items, or where all values of one side are equal.

    Source: Spearman 1904; Pearson's correlation of the ranks. Raises ``ValueError`` where xs and
    ys are not equally long.
    """
    if len(xs) != len(ys):
        raise ValueError(f"{len(xs)} values can't be correlated with {len(ys)}")
    if len(xs) < 2:
        return None
    one, other = _ranks(xs), _ranks(ys)
    mean = (len(xs) + 1) / 2
    shared = sum((a - mean) * (b - mean) for a, b in zip(one, other, strict=True))
    spread = sqrt(sum((a - mean) ** 2 for a in one) * sum((b - mean) ** 2 for b in other))
    return shared / spread if spread else None


def _shares(table: Table) -> tuple[dict[Hashable, float], dict[Hashable, float]]:
    """Return each rater's share of every category."""
    total = sum(table.values())
    first: defaultdict[Hashable, float] = defaultdict(float)
    second: defaultdict[Hashable, float] = defaultdict(float)
    for (one, other), count in table.items():
        first[one] += count / total
        second[other] += count / total
    return first, second


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for position in range(start, end + 1):
            ranks[order[position]] = (start + end) / 2 + 1
        start = end + 1
    return ranks
