"""The mathematics of spectral pruning: float64 in, float64 out; no model, no widget, no file."""

from workbench.spectral.bounds import (
    generalisation_bias,
    generalisation_variance,
    guaranteed_width,
    local_error,
    propagated_error,
    removal_error,
    sampling_bound,
)
from workbench.spectral.greedy import GreedySelector, Path, greedy_path
from workbench.spectral.losses import information_loss, losses_along
from workbench.spectral.moment import Moment
from workbench.spectral.noise import marchenko_pastur_edge
from workbench.spectral.reconstruction import (
    fold,
    readout_matrix,
    reconstruction_matrix,
)
from workbench.spectral.regression import regress_output, ridge
from workbench.spectral.selection import (
    SELECTIONS,
    Evidence,
    Selection,
    leverage_order,
    magnitude,
    order_from_scores,
    random_order,
    reader_magnitude,
)
from workbench.spectral.spectrum import Spectrum
from workbench.spectral.swapping import Swapped, swap_changes, swap_refine

__all__ = [
    "SELECTIONS",
    "Evidence",
    "GreedySelector",
    "Moment",
    "Path",
    "Selection",
    "Spectrum",
    "Swapped",
    "fold",
    "generalisation_bias",
    "generalisation_variance",
    "greedy_path",
    "guaranteed_width",
    "information_loss",
    "leverage_order",
    "local_error",
    "losses_along",
    "magnitude",
    "marchenko_pastur_edge",
    "order_from_scores",
    "propagated_error",
    "random_order",
    "reader_magnitude",
    "readout_matrix",
    "reconstruction_matrix",
    "regress_output",
    "removal_error",
    "ridge",
    "sampling_bound",
    "swap_changes",
    "swap_refine",
]
