"""How something grows."""

from collections.abc import Sequence

import numpy as np


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The exponent p of y ~ x^p, fitted by least squares to the logarithms: 1 is proportional, more superlinear."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
