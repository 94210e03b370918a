"""Agreement and rare harms against constants of the literature and scipy."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from rollout.statistics.agreement import (
    cohen_kappa,
    confusion,
    gwet_ac1,
    krippendorff_alpha,
    observed_agreement,
    spearman,
)
from rollout.statistics.harms import Stratum, clopper_pearson, harm_bound

NOBODY = "."


def table(*rows: list[int]) -> dict[tuple[object, object], float]:
    """A table of counts, rows the first rater's categories."""
    return {
        (first, second): float(count)
        for first, row in enumerate(rows)
        for second, count in enumerate(row)
    }


def test_cohens_kappa_of_the_textbook_example() -> None:
    """Fifty proposals, read by two people: 0.4."""
    known = table([20, 5], [10, 15])
    assert observed_agreement(known) == pytest.approx(0.7)
    assert cohen_kappa(known) == pytest.approx(0.4)


def test_ac1_where_kappa_is_paradoxical() -> None:
    """Gwet's example: 94% agreement on a trait that is nearly always there."""
    known = table([118, 5], [2, 0])
    assert cohen_kappa(known) == pytest.approx(-0.0234, abs=5e-5)
    assert gwet_ac1(known, 2) == pytest.approx(0.9408, abs=5e-5)


def test_alpha_of_krippendorffs_examples() -> None:
    """Four observers with missing values: 0.743; two observers of a binary trait: 0.095."""
    rows = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
    units = [[v for v in column if v != NOBODY] for column in zip(*rows, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)
    binary = zip("0100000010", "1110010000", strict=True)
    assert krippendorff_alpha(binary) == pytest.approx(0.095, abs=5e-4)


def test_alpha_leaves_single_values_out() -> None:
    """What one person alone said has nobody to agree with."""
    units = [["a", "a"], ["a", "b"], ["b", "b"]]
    assert krippendorff_alpha([*units, ["a"], []]) == krippendorff_alpha(units)


def test_agreement_of_nobody_or_of_one_answer_is_unknown() -> None:
    """Nothing is made up where there is nothing to compare."""
    assert cohen_kappa({}) is None
    assert gwet_ac1({}, 3) is None
    assert observed_agreement({}) is None
    assert krippendorff_alpha([["a"]]) is None
    assert cohen_kappa(table([9, 0], [0, 0])) is None
    assert krippendorff_alpha([["a", "a"]]) is None
    assert gwet_ac1(table([9, 0], [0, 0]), 2) == 1
    assert spearman([1.0], [2.0]) is None
    assert spearman([1.0, 1.0], [2.0, 3.0]) is None


def test_weights_count_items_as_so_many() -> None:
    """An item that was drawn with a probability of ½ stands for two."""
    pairs = [("win", "win"), ("win", "loss"), ("loss", "loss")]
    weighted = confusion(pairs, [2.0, 1.0, 2.0])
    assert weighted == confusion([pairs[0], *pairs, pairs[2]])
    assert cohen_kappa(weighted) == cohen_kappa(confusion([pairs[0], *pairs, pairs[2]]))


def test_spearman_is_scipys() -> None:
    """With ties, over a seeded sample."""
    rng = random.Random(4)
    xs = [rng.choice((-3.0, -1.0, 0.0, 2.5)) for _ in range(60)]
    ys = [x + rng.choice((-2.0, 0.0, 2.0)) for x in xs]
    assert spearman(xs, ys) == pytest.approx(float(stats.spearmanr(xs, ys).statistic))


@pytest.mark.parametrize(("k", "n"), [(0, 60), (1, 60), (3, 200), (60, 60), (17, 40), (0, 0)])
def test_clopper_pearson_is_the_beta_quantile(k: int, n: int) -> None:
    """Bounds equal the quantiles of the beta distribution."""
    low, high = clopper_pearson(k, n, 0.025)
    assert low == pytest.approx(stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0, abs=1e-9)
    assert high == pytest.approx(stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0, abs=1e-9)


def test_rule_of_three() -> None:
    """No harm in 300 labels bounds the rate at about 1%."""
    assert clopper_pearson(0, 300, 0.05)[1] == pytest.approx(3 / 300, rel=0.01)


def test_a_flag_that_finds_harms_tightens_the_bound() -> None:
    """Harms among the flagged twentieth only: where it is looked at more often, it bounds more."""
    apart = harm_bound([Stratum(30, 150, 0.05), Stratum(0, 450, 0.95)], 0.05)
    assert apart == pytest.approx(
        0.05 * stats.beta.ppf(0.975, 31, 120) + 0.95 * stats.beta.ppf(0.975, 1, 450)
    )
    assert apart < clopper_pearson(30, 600, 0.05)[1] / 2


@pytest.mark.parametrize(("k", "n", "alpha"), [(-1, 5, 0.05), (6, 5, 0.05), (1, 5, 0.0)])
def test_what_is_no_proportion_is_refused(k: int, n: int, alpha: float) -> None:
    """Counts that can't be, and bounds that never fail."""
    with pytest.raises(ValueError, match=r"successes|alpha"):
        clopper_pearson(k, n, alpha)
    with pytest.raises(ValueError, match="stratum"):
        harm_bound([], 0.05)
    with pytest.raises(ValueError, match="categories"):
        gwet_ac1({}, 1)
