"""Statistics of the decision: anytime-valid evidence as pure functions and frozen states."""

from rollout.statistics.clusters import ClusterMeans
from rollout.statistics.combine import combine_mean, combine_segments, log_threshold
from rollout.statistics.labels import LabelState
from rollout.statistics.live import ArmCounts, LiveState
from rollout.statistics.paired import Kind, PairedState
from rollout.statistics.quantile import QuantileState
from rollout.statistics.rate_limit import RateLimitState
from rollout.statistics.sample_ratio import SampleRatioState

__all__ = [
    "ArmCounts",
    "ClusterMeans",
    "Kind",
    "LabelState",
    "LiveState",
    "PairedState",
    "QuantileState",
    "RateLimitState",
    "SampleRatioState",
    "combine_mean",
    "combine_segments",
    "log_threshold",
]
