"""Layer 2, looking at data: batches, moments, scores; examples and data sets load on demand."""

from workbench.measure.batches import (
    Batches,
    Cancelled,
    as_batches,
    batch_count,
    device_of,
    first_inputs,
)
from workbench.measure.evaluation import evaluate, metric_name
from workbench.measure.moments import ActivationError, GroupStatistics, Progress, measure_moments

__all__ = [
    "ActivationError",
    "Batches",
    "Cancelled",
    "GroupStatistics",
    "Progress",
    "as_batches",
    "batch_count",
    "device_of",
    "evaluate",
    "first_inputs",
    "measure_moments",
    "metric_name",
]
