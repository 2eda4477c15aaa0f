"""Pictures for papers and course notes: arrays and an `ax` in, the `ax` out.

Nothing here knows a session: give the arrays of a `Spectrum`, of a choice's curve, or your own. The live
view in the browser does not use this package. Figures are vectors, with text as text, labelled axes, and
lines that differ without colour too: `ax.figure.savefig("figure.pdf")`. `style()` and `use_style()` give
your own figures the same look.
"""

from workbench.plots.curves import (
    plot_bias_variance,
    plot_bounds,
    plot_errors,
    plot_lam_sweep,
    plot_losses,
    plot_theta_sweep,
)
from workbench.plots.moments import plot_leverage, plot_moment, plot_noise_edge, plot_sample_sizes
from workbench.plots.networks import (
    pareto_front,
    plot_branches,
    plot_comparison,
    plot_history,
    plot_sensitivity,
)
from workbench.plots.scores import plot_scores
from workbench.plots.spectra import plot_degrees_of_freedom, plot_spectra, plot_spectrum
from workbench.plots.style import figure_class, style, use_style

__all__ = [
    "figure_class",
    "pareto_front",
    "plot_bias_variance",
    "plot_bounds",
    "plot_branches",
    "plot_comparison",
    "plot_degrees_of_freedom",
    "plot_errors",
    "plot_history",
    "plot_lam_sweep",
    "plot_leverage",
    "plot_losses",
    "plot_moment",
    "plot_noise_edge",
    "plot_sample_sizes",
    "plot_scores",
    "plot_sensitivity",
    "plot_spectra",
    "plot_spectrum",
    "plot_theta_sweep",
    "style",
    "use_style",
]
