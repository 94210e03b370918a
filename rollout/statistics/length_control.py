"""The win rate with answers of equal length: a diagnostic of a judge that likes length.

The length-controlled win rate of Dubois, Galambosi, Liang and Hashimoto, "Length-Controlled
AlpacaEval" (arXiv 2404.04475, section 3), for two models and without their term for the difficulty
of an instruction, which needs many models to be fitted. For pair i with lengths c_i and b_i,

    P(candidate preferred) = sigmoid(theta + phi * tanh((c_i - b_i) / s)),

s being the standard deviation of the differences; ties count as one half (fractional logistic
regression, Papke and Wooldridge 1996). With phi set to 0 the win rate is sigmoid(theta). Its
standard error is the sandwich estimate, put through the derivative of the sigmoid (delta method).
Never an input of a decision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LengthControlled", "length_controlled"]

LEAST_PAIRS = 30
_RIDGE = 1e-3  # one thousandth of a pair: keeps separable data finite
_STEPS = 100
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """Win rates, raw and at equal length, with 95% bounds of the latter.

    ``length_effect`` is phi: positive where the longer answer is preferred beyond its merit, in log
    odds between a difference of none and of several standard deviations. ``mean_difference`` is the
    candidate's length less the baseline's, in the lengths' unit.
    """

    pairs: int
    raw: float
    win_rate: float
    low: float
    high: float
    length_effect: float
    length_effect_se: float
    mean_difference: float


def length_controlled(
    scores: ArrayLike, baseline: ArrayLike, candidate: ArrayLike
) -> LengthControlled | None:
    """Fit the win rate at equal length; None below 30 pairs, or where no length differs.

    ``scores`` are the candidate's, in [-1, 1], a tie 0; the lengths are of the same pairs, in any
    unit. Raises ``ValueError`` for arrays of different lengths and for a score out of range.
    """
    score = np.asarray(scores, float)
    difference = np.asarray(candidate, float) - np.asarray(baseline, float)
    if score.ndim != 1 or score.shape != difference.shape:
        raise ValueError("scores and lengths must be of the same pairs, one for each")
    if score.size and np.abs(score).max() > 1:
        raise ValueError("a score lies in [-1, 1]")
    spread = float(difference.std()) if score.size else 0.0
    if score.size < LEAST_PAIRS or spread == 0:
        return None
    won = (1 + score) / 2
    design = np.column_stack([np.ones_like(difference), np.tanh(difference / spread)])
    beta, covariance = _fit(design, won)
    theta, phi = (float(each) for each in beta)
    se = np.sqrt(np.diag(covariance))
    return LengthControlled(
        pairs=int(score.size),
        raw=float(won.mean()),
        win_rate=_sigmoid(theta),
        low=_sigmoid(theta - _Z95 * float(se[0])),
        high=_sigmoid(theta + _Z95 * float(se[0])),
        length_effect=phi,
        length_effect_se=float(se[1]),
        mean_difference=float(difference.mean()),
    )


def _fit(
    design: NDArray[np.float64], won: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coefficients and their sandwich covariance, by Newton's method with halved steps."""
    beta = np.zeros(design.shape[1])
    ridge = _RIDGE * np.eye(design.shape[1])
    loss = _loss(beta, design, won)
    for _ in range(_STEPS):
        mean = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (won - mean) - _RIDGE * beta
        hessian = (design.T * (mean * (1 - mean))) @ design + ridge
        step = np.linalg.solve(hessian, gradient)
        while _loss(beta + step, design, won) > loss and np.abs(step).max() > 1e-12:
            step = step / 2
        beta = beta + step
        loss = _loss(beta, design, won)
        if np.abs(step).max() < 1e-10:
            break
    mean = 1 / (1 + np.exp(-design @ beta))
    bread = np.linalg.inv((design.T * (mean * (1 - mean))) @ design + ridge)
    meat = (design.T * (won - mean) ** 2) @ design
    return beta, bread @ meat @ bread


def _loss(
    beta: NDArray[np.float64], design: NDArray[np.float64], won: NDArray[np.float64]
) -> float:
    linear = design @ beta
    return float((np.logaddexp(0, linear) - won * linear).sum() + _RIDGE / 2 * float(beta @ beta))


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(value, -700, 700))))
