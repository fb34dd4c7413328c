"""Special functions that numpy lacks, as the reference for the kernels: so far, erf.

    erf(x) = 2/sqrt(pi) * integral of exp(-t^2) from 0 to x

Four intervals, each with a rational function fitted to it (the intervals and coefficients are those
of Sun Microsystems' fdlibm, `s_erf.c`, 1993):

    |x| < 0.84375      x + x P(x^2)
    |x| < 1.25         c + P(|x| - 1)
    |x| < 1 / 0.35     1 - exp(-x^2 - 0.5625 + R(1/x^2)) / |x|
    |x| < 6            the same with another R;  beyond, 1

each element is computed only in the interval it lies in, in float64, to about one ulp.

    >>> float(erf(np.array(0.5))), float(erf(np.array(-np.inf)))
    (0.5204998778130465, -1.0)

Left out: a fast erf.  This one is for machines without a compiler, and for checking the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any

# Coefficients from the constant term up: numerator, denominator.
_SMALL = (
    (
        1.28379167095512558561e-01,
        -3.25042107247001499370e-01,
        -2.84817495755985104766e-02,
        -5.77027029648944159157e-03,
        -2.37630166566501626084e-05,
    ),
    (
        1.0,
        3.97917223959155352819e-01,
        6.50222499887672944485e-02,
        5.08130628187576562776e-03,
        1.32494738004321644526e-04,
        -3.96022827877536812320e-06,
    ),
)
_MIDDLE = (
    (
        -2.36211856075265944077e-03,
        4.14856118683748331666e-01,
        -3.72207876035701323847e-01,
        3.18346619901161753674e-01,
        -1.10894694282396677476e-01,
        3.54783043256182359371e-02,
        -2.16637559486879084300e-03,
    ),
    (
        1.0,
        1.06420880400844228286e-01,
        5.40397917702171048937e-01,
        7.18286544141962662868e-02,
        1.26171219808761642112e-01,
        1.36370839120290507362e-02,
        1.19844998467991074170e-02,
    ),
)
_ERF_1 = 8.45062911510467529297e-01  # about erf(1), with few bits
_LARGE = (
    (
        -9.86494403484714822705e-03,
        -6.93858572707181764372e-01,
        -1.05586262253232909814e01,
        -6.23753324503260060396e01,
        -1.62396669462573470355e02,
        -1.84605092906711035994e02,
        -8.12874355063065934246e01,
        -9.81432934416914548592e00,
    ),
    (
        1.0,
        1.96512716674392571292e01,
        1.37657754143519042600e02,
        4.34565877475229228821e02,
        6.45387271733267880336e02,
        4.29008140027567833386e02,
        1.08635005541779435134e02,
        6.57024977031928170135e00,
        -6.04244152148580987438e-02,
    ),
)
_LARGER = (
    (
        -9.86494292470009928597e-03,
        -7.99283237680523006574e-01,
        -1.77579549177547519889e01,
        -1.60636384855821916062e02,
        -6.37566443368389627722e02,
        -1.02509513161107724954e03,
        -4.83519191608651397019e02,
    ),
    (
        1.0,
        3.03380607434824582924e01,
        3.25792512996573918826e02,
        1.53672958608443695994e03,
        3.19985821950859553908e03,
        2.55305040643316442583e03,
        4.74528541206955367215e02,
        -2.24409524465858183362e01,
    ),
)


def _polynomial(coefficients: tuple[float, ...], s: Array) -> Array:
    total = np.full_like(s, coefficients[-1])
    for c in reversed(coefficients[:-1]):  # Horner's rule
        total *= s
        total += c
    return total


def _rational(coefficients: tuple[tuple[float, ...], tuple[float, ...]], s: Array) -> Array:
    return _polynomial(coefficients[0], s) / _polynomial(coefficients[1], s)


def erf(x: Array) -> Array:
    """The error function, elementwise, in the dtype of `x` (float32 or float64)."""
    given = np.asarray(x)
    wide = given.astype(np.float64, copy=False).reshape(-1)
    size = np.abs(wide)
    y = np.sign(wide)  # right beyond 6, and for NaN
    inside = size < 0.84375
    near = wide[inside]
    y[inside] = near + near * _rational(_SMALL, near * near)
    inside = (size >= 0.84375) & (size < 1.25)
    y[inside] *= _ERF_1 + _rational(_MIDDLE, size[inside] - 1.0)
    for low, high, coefficients in ((1.25, 1 / 0.35, _LARGE), (1 / 0.35, 6.0, _LARGER)):
        inside = (size >= low) & (size < high)
        a = size[inside]
        square = a * a
        y[inside] *= 1.0 - np.exp(-square - 0.5625 + _rational(coefficients, 1.0 / square)) / a
    return y.reshape(given.shape).astype(given.dtype, copy=False)
