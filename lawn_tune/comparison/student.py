"""Quantiles of Student's t; SciPy, which has them too, takes a tenth of a second to import."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import count
from statistics import NormalDist

PRECISION = 1e-9
"""Relative size of the last of Newton's steps, which squares the error."""


@lru_cache(maxsize=1024)
def quantile(freedom: float, probability: float) -> float:
    """Returns the value that Student's t exceeds with a chance of 1 − `probability`.

    Args:
        freedom: degrees of freedom > 0; infinity for the normal distribution.
        probability: above 0.5, where the tail is convex: Newton's steps from the normal quantile never pass the root.
    """
    t = step = NormalDist().inv_cdf(probability)
    while step > PRECISION * t and freedom < math.inf:
        tail, density = _beyond(t, freedom)
        step = (tail - (1 - probability)) / density
        t += step
    return t


def _beyond(t: float, freedom: float) -> tuple[float, float]:
    """Returns the chance that Student's t exceeds t > 0, I_x(ν/2, 1/2) / 2 at x = ν / (ν + t²), and its density."""
    a, b = freedom / 2, 0.5
    x, y = freedom / (freedom + t * t), t * t / (freedom + t * t)
    power = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(y))
    near = x > (a + 1) / (a + b + 2)  # the fraction converges quickly on one side of the mean only
    tail = 0.5 - power * _fraction(b, a, y) / (2 * b) if near else power * _fraction(a, b, x) / (2 * a)
    return tail, power / t


def _fraction(a: float, b: float, x: float) -> float:
    """Returns the continued fraction of the incomplete beta function: I_x(a, b) = x^a·(1 − x)^b / (a·B(a, b)) times it.

    Source: DLMF 8.17.22, evaluated by the modified method of Lentz.
    """
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in count(1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = value
        for term in (even, odd):
            c, d = 1 + term / c, 1 / (1 + term * d)
            value *= c * d
        if abs(value - before) <= 1e-15 * value:
            break
    return value
