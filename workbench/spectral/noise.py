"""How far noise alone spreads a spectrum: which eigenvalues a finite sample cannot tell from noise."""

from __future__ import annotations

import math


def marchenko_pastur_edge(width: int, samples: int, variance: float = 1.0) -> float:
    """σ²(1 + √(m/n))², the largest eigenvalue of the moment of white noise alone.

    For n samples of m independent units of mean 0 and variance σ², Σ = (1/n) Σ_i φ_i φ_iᵀ has all its
    eigenvalues near σ² only while n is much larger than m. As m and n grow at a fixed m/n, the largest tends
    to this edge; at finite sizes it scatters about it by a share of about m^(−2/3) (Tracy–Widom). A direction
    whose own variance exceeds σ²(1 + √(m/n)) stands out above the edge, one below it stays inside (Baik, Ben
    Arous, Péché 2005). Activations of a real layer are neither white nor independent: there the edge is a
    scale, not a test.

    Args:
        width: m, units.
        samples: n.
        variance: σ² ≥ 0, of every unit of the noise, in squared activations.

    Returns:
        An eigenvalue of Σ, in squared activations.

    Raises:
        ValueError: fewer than one unit or sample, or a variance that is negative or not finite.

    Source:
        Marchenko and Pastur, 1967; for the convergence of the largest eigenvalue Geman, Annals of
        Probability 8, 1980.
    """
    if width < 1 or samples < 1:
        raise ValueError(f"at least one unit and one sample are needed; got {width} and {samples}")
    if not (variance >= 0 and math.isfinite(variance)):
        raise ValueError(f"a variance is a finite number of 0 or more, but {variance} was given")
    return variance * (1 + math.sqrt(width / samples)) ** 2  # σ²(1 + √(m/n))²
