"""Special functions that numpy lacks, as the reference for the kernels.

    erf(x) = 2/sqrt(pi) * integral of exp(-t^2) from 0 to x         erfc(x) = 1 - erf(x)

Four intervals, each with a rational function fitted to it (the intervals and coefficients are those
of Sun Microsystems' fdlibm, `s_erf.c`, 1993):

    |x| < 0.84375      x + x P(x^2)
    |x| < 1.25         c + P(|x| - 1)
    |x| < 1 / 0.35     1 - exp(-x^2 - 0.5625 + R(1/x^2)) / |x|
    |x| < 6            the same with another R;  beyond, 1

each element is computed only in the interval it lies in, in float64, to about one ulp.

    >>> float(erf(np.array(0.5))), float(erf(np.array(-np.inf)))
    (0.5204998778130465, -1.0)

erfinv starts from a short approximation and is refined by Halley's method on erf, or, where erf is
so close to 1 that its digits are gone, on erfc.

The gamma function's family is moved to large arguments by its recurrences, where the asymptotic
series of Stirling holds (Abramowitz & Stegun 1964, 6.1.41, 6.3.18, 6.4.11), and to positive ones by
reflection:

    log|G(x)| = log|G(x + 1)| - log|x|             log|G(x)| = log(pi / |sin(pi x)|) - log|G(1 - x)|
    psi(x)    = psi(x + 1) - 1 / x                 psi(x)    = psi(1 - x) - pi / tan(pi x)

    >>> float(lgamma(np.array(5.0)).round(12)), float(digamma(np.array(1.0)).round(12))
    (3.178053830348, -0.577215664902)

Left out: fast versions.  These are for machines without a compiler, and for checking the others.
"""

from __future__ import annotations

import math
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


def erfc(x: Array) -> Array:
    """1 - erf(x) without cancellation, elementwise, in the dtype of `x` (float32 or float64)."""
    given = np.asarray(x)
    wide = given.astype(np.float64, copy=False).reshape(-1)
    size = np.abs(wide)
    y = np.where(wide < 0.0, 2.0, 0.0)  # right beyond 28
    y[np.isnan(wide)] = np.nan
    inside = size < 1.25
    y[inside] = 1.0 - erf(wide[inside])
    for low, high, coefficients in ((1.25, 1 / 0.35, _LARGE), (1 / 0.35, 28.0, _LARGER)):
        inside = (size >= low) & (size < high)
        a = size[inside]
        rounded = a.astype(np.float32).astype(np.float64)  # its square is exact: exp(-a^2) keeps its digits
        rest = (rounded - a) * (rounded + a) + _rational(coefficients, 1.0 / (a * a))
        tail = np.exp(-rounded * rounded - 0.5625) * np.exp(rest) / a
        y[inside] = np.where(wide[inside] < 0.0, 2.0 - tail, tail)
    return y.reshape(given.shape).astype(given.dtype, copy=False)


def erfinv(x: Array) -> Array:
    """The y with erf(y) = x, elementwise; Inf at 1, NaN outside [-1, 1]."""
    given = np.asarray(x)
    wide = given.astype(np.float64, copy=False)
    size = np.abs(wide)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Winitzki 2008, "A handy approximation for the error function and its inverse".
        tail = np.log1p(-size * size)
        middle = 2.0 / (np.pi * 0.147) + tail / 2.0
        y = np.sqrt(np.sqrt(middle * middle - tail / 0.147) - middle)
        for _ in range(3):
            # exp(-y^2) is needed to full relative accuracy only as far as the correction is.
            gap = np.where(size < 0.5, erf(y) - size, (1.0 - size) - erfc(y))
            step = gap * (np.sqrt(np.pi) / 2.0) * np.exp(y * y)
            y = y - np.where(np.isfinite(step), step / (1.0 + y * step), 0.0)
        y = np.where(size == 1.0, np.inf, np.where(size <= 1.0, y, np.nan))
    return np.copysign(y, wide).astype(given.dtype, copy=False)


_SERIES = 10.0  # from here on the asymptotic series have all digits of a double
#: B_2k / (2k (2k - 1)), for log|G|.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
#: B_2k.
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


def lgamma(x: Array) -> Array:
    """log|G(x)|, elementwise; Inf at 0 and the negative integers."""
    given = np.asarray(x)
    wide = given.astype(np.float64, copy=False)
    with np.errstate(all="ignore"):
        flip = wide < 0.5
        z = np.where(flip, 1.0 - wide, wide)
        product = np.ones_like(z)
        for _ in range(int(_SERIES)):
            small = z < _SERIES
            product = np.where(small, product * z, product)
            z = np.where(small, z + 1.0, z)
        series = _polynomial(_STIRLING, np.asarray(1.0 / (z * z))) / z
        y = (z - 0.5) * np.log(z) - z + 0.5 * np.log(2.0 * np.pi) + series - np.log(product)
        # sin(pi x) from the distance to the next integer: pi x itself has lost it when x is large.
        reflected = np.log(np.pi / np.abs(np.sin(np.pi * (wide - np.rint(wide))))) - y
        y = np.where(flip, reflected, y)
        y = np.where((wide == 1.0) | (wide == 2.0), 0.0, y)  # exact
        y = np.where(np.isinf(wide) | ((wide <= 0.0) & (wide == np.floor(wide))), np.inf, y)
    return np.asarray(y).astype(given.dtype, copy=False)


def digamma(x: Array) -> Array:
    """psi(x), the derivative of log G; NaN at the negative integers, -Inf at 0 (+Inf at -0.0)."""
    given = np.asarray(x)
    wide = given.astype(np.float64, copy=False)
    with np.errstate(all="ignore"):
        flip = wide < 0.0
        z = np.where(flip, 1.0 - wide, wide)
        total = np.zeros_like(z)
        for _ in range(int(_SERIES)):
            small = z < _SERIES
            total = np.where(small, total + 1.0 / z, total)
            z = np.where(small, z + 1.0, z)
        inverse = np.asarray(1.0 / (z * z))
        series = inverse * _polynomial(tuple(b / (2 * k + 2) for k, b in enumerate(_BERNOULLI)), inverse)
        y = np.log(z) - 0.5 / z - series - total
        y = np.where(flip, y - np.pi / np.tan(np.pi * (wide - np.rint(wide))), y)
        y = np.where(flip & (wide == np.floor(wide)), np.nan, y)
        y = np.where(wide == 0.0, np.copysign(np.inf, -wide), y)
        y = np.where(wide == np.inf, np.inf, y)
    return np.asarray(y).astype(given.dtype, copy=False)


def polygamma(n: int, x: Array) -> Array:
    """The n-th derivative of psi, n >= 1, elementwise.

    For x < 0 only the first is defined here (by reflection); higher ones are NaN there, as in PyTorch.
    """
    given = np.asarray(x)
    wide = given.astype(np.float64, copy=False)
    with np.errstate(all="ignore"):
        flip = (wide < 0.0) & (n == 1)
        z = np.where(flip, 1.0 - wide, wide)
        total = np.zeros_like(z)
        start = _SERIES + n  # the series of the n-th derivative starts to converge later
        for _ in range(int(start)):
            small = z < start
            total = np.where(small, total + z ** -(n + 1.0), total)
            z = np.where(small, z + 1.0, z)
        # (-1)^(n+1) ( (n-1)!/z^n + n!/(2 z^(n+1)) + sum B_2k (2k+n-1)!/((2k)! z^(2k+n)) )
        y = math.factorial(n - 1) * z**-n + 0.5 * math.factorial(n) * z ** -(n + 1.0)
        for k, b in enumerate(_BERNOULLI, 1):
            y = y + b * math.factorial(2 * k + n - 1) / math.factorial(2 * k) * z ** -(2.0 * k + n)
        y = (-1.0) ** (n + 1) * (y + math.factorial(n) * total)
        sine = np.sin(np.pi * (wide - np.rint(wide)))
        y = np.where(flip, (np.pi / sine) ** 2 - y, y)
        y = np.where((wide < 0.0) & (n > 1), np.nan, y)
        y = np.where((wide == 0.0) | (flip & (sine == 0.0)), np.inf * (-1.0) ** (n + 1), y)
    return np.asarray(y).astype(given.dtype, copy=False)
