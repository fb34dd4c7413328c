"""Augmentation: examples changed at random in ways that keep their meaning.

Every transform works on a whole batch at once, in numpy, and draws for each example from a stream of its
own: a Philox counter made of the place of the transform, the index of the example and the pass, under the
seed as the key.  So what is made of an example depends on these and on nothing else: not on the batch it
is in, the order, the number of workers, or whether the run was resumed.

    >>> import numpy as np
    >>> from minigrad.data import TensorDataset
    >>> images, labels = np.random.rand(10, 1, 8, 8).astype("float32"), np.arange(10)
    >>> augment = Compose([RandomCrop(8, padding=1), RandomRotation(10), Cutout(2)])
    >>> train = Augmented(TensorDataset(images, labels), augment, seed=1)
    >>> one, batch = train[3][0], train[np.array([9, 3])][0]
    >>> bool((one == batch[1]).all())
    True
    >>> train.set_epoch(1)
    >>> bool((one == train[3][0]).all())
    False

A `DataLoader` tells the pass by itself.  Images are (n, height, width) or (n, channels, height, width), or
with `channels_last=True` (n, height, width, channels); series are (n, time, ...).  Geometry is computed
backwards: for each pixel of the result the place it comes from, by a matrix about the centre,

    row' = ( cos a row + sin a col) / s                  (a counter-clockwise, s the scale)
    col' = (-sin a row + cos a col) / s + shear row'     (then a translation)

and the image there is interpolated between its four neighbours (bilinear).

Mixing (Mixup, CutMix) takes each example's partner from its batch, so it does depend on the batch; the
batches themselves do not depend on the workers.

References: Simard et al. 2003 (elastic); DeVries & Taylor 2017 (cutout, 1708.04552); Zhong et al. 2017
(random erasing, 1708.04896); Zhang et al. 2018 (mixup, 1710.09412); Yun et al. 2019 (CutMix, 1905.04899);
Um et al. 2017 (series, 1706.00527).  Left out: colour spaces, learned policies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..philox import rounds
from ..tensor import Tensor, wrap
from .sets import _OfSets, is_batched

Array = np.ndarray[Any, Any]


class Draws:
    """Random numbers for each example of a batch: of the examples `index`, (n,), in a pass.

    Word j of an example comes from the counter (j / 4, index, pass, the transform's place).
    """

    def __init__(self, seed: int, epoch: int, index: Array, place: int = 0) -> None:
        self.seed, self.epoch, self.index, self.place = seed, epoch, np.asarray(index, np.uint64), place
        self._used = 0

    def at(self, place: int) -> Draws:
        """Streams of another transform."""
        return Draws(self.seed, self.epoch, self.index, self.place * 64 + place + 1)

    def __len__(self) -> int:
        return len(self.index)

    def uniform(self, count: int) -> Array:
        """(n, count) float64 in [0, 1)."""
        blocks = -(-count // 2)
        j = np.arange(self._used, self._used + blocks, dtype=np.uint64)
        self._used += blocks
        c0 = np.broadcast_to(j, (len(self), blocks))
        index = np.broadcast_to(self.index[:, None], c0.shape)
        words = rounds(
            c0,
            index & np.uint64(0xFFFFFFFF),
            np.full(c0.shape, self.epoch & 0xFFFFFFFF, np.uint64),
            (index >> np.uint64(32) & np.uint64(0xFFFF)) | np.uint64((self.place & 0xFFFF) << 16),
            self.seed & 0xFFFFFFFF,
            (self.seed >> 32) & 0xFFFFFFFF,
        )
        high, low = words[..., 0::2] >> np.uint64(5), words[..., 1::2] >> np.uint64(6)
        u: Array = (high * 67108864.0 + low) / 9007199254740992.0
        numbers: Array = u.reshape(len(self), -1)[:, :count]
        return numbers

    def between(self, low: float, high: float) -> Array:
        """(n,) uniform."""
        drawn: Array = low + (high - low) * self.uniform(1)[:, 0]
        return drawn

    def normal(self, count: int) -> Array:
        """(n, count) of mean 0 and deviation 1 (Box & Muller 1958)."""
        half = -(-count // 2)
        u = self.uniform(2 * half)
        r = np.sqrt(-2.0 * np.log1p(-u[:, :half]))
        angle = 2.0 * np.pi * u[:, half:]
        z: Array = np.concatenate([r * np.cos(angle), r * np.sin(angle)], axis=1)
        return z[:, :count]

    def integers(self, low: Any, high: Any) -> Array:
        """(n,) integers in [low, high)."""
        u = self.uniform(1)[:, 0]
        drawn: Array = (low + np.floor(u * (np.asarray(high) - low))).astype(np.int64)
        return drawn


class Transform:
    """Base: subclasses define `change(x, draws)`, or `change_pair(x, y, draws)` if labels change too.

    p: the share of the examples that are changed.
    """

    pairs = False

    def __init__(self, p: float = 1.0) -> None:
        if not isinstance(p, (int, float)) or not 0.0 <= p <= 1.0:
            raise ArgumentError(type(self).__name__, f"p is {p!r}", fix="choose it between 0 and 1")
        self.p = float(p)

    def change(self, x: Array, draws: Draws) -> Array:
        """The changed batch, a new array."""
        raise ArgumentError(type(self).__name__, "it changes nothing", fix="define change(self, x, draws)")

    def change_pair(self, x: Array, y: Any, draws: Draws) -> tuple[Array, Any]:
        """The changed batch and its labels."""
        if self.p == 1.0:
            return self.change(x, draws), y
        chosen = draws.uniform(1)[:, 0] < self.p
        changed = self.change(x, draws)
        return np.where(chosen.reshape(-1, *[1] * (x.ndim - 1)), changed, x), y

    def __call__(self, x: Any, y: Any = None, *, seed: int = 0, epoch: int = 0, index: Any = None) -> Any:
        """A batch x, or (x, y), changed; index: of the examples, by default 0 to n - 1."""
        array = x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x)
        if not array.ndim:
            raise ShapeError(type(self).__name__, "x is a single number", fix="pass a batch")
        if self.pairs and y is None:
            raise ArgumentError(type(self).__name__, "it mixes labels too", fix="pass (x, y)")
        labels = y.detach().numpy() if isinstance(y, Tensor) else y
        draws = Draws(seed, epoch, np.arange(len(array)) if index is None else index)
        changed, new = self.change_pair(array, labels, draws)
        a = wrap(np.ascontiguousarray(changed)) if isinstance(x, Tensor) else changed
        b = wrap(np.asarray(new)) if isinstance(y, Tensor) else new
        return a if y is None else (a, b)


class Compose(Transform):
    """Several transforms, one after the other."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__()
        self.transforms = list(transforms)
        for t in self.transforms:
            if not isinstance(t, Transform):
                raise DTypeError("Compose", f"a {type(t).__name__} is no transform", fix="pass Transforms")
        self.pairs = any(t.pairs for t in self.transforms)

    def change_pair(self, x: Array, y: Any, draws: Draws) -> tuple[Array, Any]:
        """All of them"""
        for place, t in enumerate(self.transforms):
            x, y = t.change_pair(x, y, draws.at(place))
        return x, y


class Augmented(_OfSets):
    """A data set of (x, ...) whose x is transformed anew in every pass; of (x, y) if labels are mixed."""

    def __init__(self, dataset: Any, transform: Transform, seed: int = 0) -> None:
        if not isinstance(transform, Transform):
            raise DTypeError(
                "Augmented", f"a {type(transform).__name__} is no transform", fix="pass one, or a Compose"
            )
        if transform.pairs and not is_batched(dataset):
            raise ArgumentError(
                "Augmented",
                "mixing needs whole batches, and this data set gives single examples",
                fix="use a TensorDataset, or mix in collate_fn",
            )
        self.dataset, self.transform, self.seed = dataset, transform, int(seed)
        self.parts = [dataset]
        self.epoch = 0
        self.batched = is_batched(dataset)

    def set_epoch(self, epoch: int) -> None:
        """The pass that begins."""
        self.epoch = int(epoch)
        super().set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        many = isinstance(index, (slice, np.ndarray))
        which = np.arange(len(self))[index] if many else np.array([int(index) % len(self)])
        example = self.dataset[which if self.batched else int(which[0])]
        parts = example if isinstance(example, (tuple, list)) else (example,)
        x = parts[0] if self.batched else _one(parts[0])
        options: Any = {"seed": self.seed, "epoch": self.epoch, "index": which}
        if self.transform.pairs:
            x, y = self.transform(x, parts[1], **options)
            changed: tuple[Any, ...] = (x, y, *parts[2:])
        else:
            changed = (self.transform(x, **options), *parts[1:])
        if not many and self.batched:
            changed = tuple(part[0] for part in changed)
        elif not many:
            changed = (changed[0][0], *changed[1:])
        return changed if isinstance(example, (tuple, list)) else changed[0]


def _one(x: Any) -> Any:
    return x.unsqueeze(0) if isinstance(x, Tensor) else np.asarray(x)[None]


# -- images -----------------------------------------------------------------------------------------------


class ImageTransform(Transform):
    """Base of transforms of images: subclasses see (n, channels, height, width)."""

    def __init__(self, p: float = 1.0, channels_last: bool = False) -> None:
        super().__init__(p)
        self.channels_last = bool(channels_last)

    def change(self, x: Array, draws: Draws) -> Array:
        """The images in the order of dimensions that they came in"""
        if x.ndim not in (3, 4):
            raise ShapeError(
                type(self).__name__,
                f"images of shape {x.shape}",
                fix="pass (n, height, width) or (n, channels, height, width)",
            )
        if x.ndim == 3:
            return self.images(x[:, None], draws)[:, 0]
        if self.channels_last:
            return np.moveaxis(self.images(np.moveaxis(x, 3, 1), draws), 1, 3)
        return self.images(x, draws)

    def images(self, x: Array, draws: Draws) -> Array:
        """The changed images."""
        raise ArgumentError(type(self).__name__, "it changes nothing", fix="define images(self, x, draws)")


def _cast(values: Array, like: Array) -> Array:
    """Values in the dtype of the images, rounded and kept in range if those are integers."""
    if like.dtype.kind in "iu":
        limits = np.iinfo(like.dtype)
        return np.clip(np.rint(values), limits.min, limits.max).astype(like.dtype)
    return values.astype(like.dtype, copy=False)


def _each(values: Array) -> Array:
    return values.reshape(-1, 1, 1, 1)


class RandomHorizontalFlip(ImageTransform):
    """Left and right exchanged, of a share p of the images."""

    _axis = 3

    def __init__(self, p: float = 0.5, channels_last: bool = False) -> None:
        super().__init__(p, channels_last)

    def images(self, x: Array, draws: Draws) -> Array:
        """Mirror images"""
        return np.flip(x, self._axis)


class RandomVerticalFlip(RandomHorizontalFlip):
    """Top and bottom exchanged, of a share p of the images."""

    _axis = 2


class RandomCrop(ImageTransform):
    """A window of `size` (an integer or (height, width)) at a random place, after padding with `fill`."""

    def __init__(
        self, size: Any, padding: int = 0, fill: float = 0.0, p: float = 1.0, channels_last: bool = False
    ) -> None:
        super().__init__(p, channels_last)
        self.size = _pair("RandomCrop", "size", size)
        self.padding, self.fill = int(padding), fill

    def images(self, x: Array, draws: Draws) -> Array:
        """Windows"""
        pad, (height, width) = self.padding, self.size
        if pad:
            x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=self.fill)
        n, channels, rows, columns = x.shape
        if height > rows or width > columns:
            raise ShapeError(
                "RandomCrop",
                f"a window of {self.size} of images of {rows, columns}",
                fix="pad, or choose smaller",
            )
        top, left = draws.integers(0, rows - height + 1), draws.integers(0, columns - width + 1)
        out = np.empty((n, channels, height, width), x.dtype)
        for i in range(n):  # contiguous rows: quicker than gathering every pixel
            out[i] = x[i, :, top[i] : top[i] + height, left[i] : left[i] + width]
        return out


def _pair(op: str, name: str, value: Any) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(pair) != 2 or any(isinstance(v, bool) or v < 1 for v in pair):
        raise ArgumentError(op, f"{name} is {value!r}", fix="pass one or two integers of at least 1")
    return int(pair[0]), int(pair[1])


def _range(op: str, name: str, value: Any, about: float = 0.0) -> tuple[float, float]:
    pair = (about - value, about + value) if isinstance(value, (int, float)) else tuple(value)
    if len(pair) != 2 or not pair[0] <= pair[1]:
        raise ArgumentError(op, f"{name} is {value!r}", fix="pass a number, or (low, high)")
    return float(pair[0]), float(pair[1])


def sample(x: Array, rows: Array, columns: Array, fill: float) -> Array:
    """Images (n, c, h, w) at real coordinates (n, h', w'), bilinearly; `fill` outside of them."""
    n, channels, height, width = x.shape
    r0, c0 = np.floor(rows), np.floor(columns)
    fr, fc = (rows - r0).astype(np.float32), (columns - c0).astype(np.float32)
    # a frame of `fill` around each image: what is outside is then read like anything else
    framed = np.full((n, channels, height + 2, width + 2), fill, np.float32)
    framed[:, :, 1:-1, 1:-1] = x
    step = width + 2
    outside = (r0 < -1) | (r0 > height - 1) | (c0 < -1) | (c0 > width - 1)
    at = (np.clip(r0, -1, height - 1) + 1) * step + np.clip(c0, -1, width - 1) + 1
    base = (np.arange(n) * channels * (height + 2) * step).reshape(n, 1, 1, 1)
    plane = (np.arange(channels) * (height + 2) * step).reshape(1, channels, 1, 1)
    flat = framed.reshape(-1)
    places = at.astype(np.int64)[:, None] + (base + plane)
    fr, fc = fr[:, None], fc[:, None]
    top = flat.take(places)
    top += (flat.take(places + 1) - top) * fc
    low = flat.take(places + step)
    low += (flat.take(places + step + 1) - low) * fc
    top += (low - top) * fr
    if outside.any():
        top = np.where(outside[:, None], np.float32(fill), top)
    return _cast(top, x)


class RandomAffine(ImageTransform):
    """Rotation, translation, scaling and shear about the centre.

    degrees: of rotation, +-degrees or (low, high).  translate: largest shares (vertical, horizontal) of the
    size.  scale: (low, high) factors.  shear: degrees, +-shear or (low, high).  fill: outside of the image.
    """

    def __init__(
        self,
        degrees: Any = 0.0,
        translate: tuple[float, float] | None = None,
        scale: tuple[float, float] | None = None,
        shear: Any = 0.0,
        fill: float = 0.0,
        p: float = 1.0,
        channels_last: bool = False,
    ) -> None:
        super().__init__(p, channels_last)
        op = type(self).__name__
        self.degrees = _range(op, "degrees", degrees)
        self.translate = (0.0, 0.0) if translate is None else (float(translate[0]), float(translate[1]))
        self.scale = (1.0, 1.0) if scale is None else _range(op, "scale", scale)
        self.shear = _range(op, "shear", shear)
        self.fill = fill
        if self.scale[0] <= 0 or not all(0 <= t <= 1 for t in self.translate):
            raise ArgumentError(
                op, f"scale is {scale!r}, translate {translate!r}", fix="scale above 0, translate in 0 to 1"
            )

    def images(self, x: Array, draws: Draws) -> Array:
        """Images seen through a random affine map"""
        height, width = x.shape[2:]
        u = draws.uniform(5)
        angle, size, shear = (
            low + (high - low) * u[:, i]
            for i, (low, high) in enumerate((self.degrees, self.scale, self.shear))
        )
        angle, shear = np.deg2rad(angle), np.tan(np.deg2rad(shear))
        down = (2 * u[:, 3] - 1) * self.translate[0] * height
        right = (2 * u[:, 4] - 1) * self.translate[1] * width
        cos, sin = np.cos(angle) / size, np.sin(angle) / size
        r = (np.arange(height) - (height - 1) / 2).reshape(1, -1, 1) - down.reshape(-1, 1, 1)
        c = (np.arange(width) - (width - 1) / 2).reshape(1, 1, -1) - right.reshape(-1, 1, 1)
        cos, sin, shear = (v.reshape(-1, 1, 1) for v in (cos, sin, shear))
        rows = cos * r + sin * c
        columns = cos * c - sin * r + shear * rows
        return sample(x, rows + (height - 1) / 2, columns + (width - 1) / 2, self.fill)


class RandomRotation(RandomAffine):
    """Rotation by +-degrees, or between two angles."""

    def __init__(self, degrees: Any, fill: float = 0.0, p: float = 1.0, channels_last: bool = False) -> None:
        super().__init__(degrees, fill=fill, p=p, channels_last=channels_last)


class RandomTranslation(RandomAffine):
    """Moved by up to a share of the height and width."""

    def __init__(
        self, height: float, width: float, fill: float = 0.0, p: float = 1.0, channels_last: bool = False
    ) -> None:
        super().__init__(translate=(height, width), fill=fill, p=p, channels_last=channels_last)


class RandomScale(RandomAffine):
    """Larger or smaller by a factor between two."""

    def __init__(
        self, scale: tuple[float, float], fill: float = 0.0, p: float = 1.0, channels_last: bool = False
    ) -> None:
        super().__init__(scale=scale, fill=fill, p=p, channels_last=channels_last)


class RandomShear(RandomAffine):
    """Sheared horizontally by +-degrees."""

    def __init__(self, degrees: Any, fill: float = 0.0, p: float = 1.0, channels_last: bool = False) -> None:
        super().__init__(shear=degrees, fill=fill, p=p, channels_last=channels_last)


class ElasticTransform(ImageTransform):
    """Each pixel moved by a smooth random field: uniform noise blurred by a Gaussian of width `sigma`
    pixels, times `alpha`."""

    def __init__(
        self,
        alpha: float = 8.0,
        sigma: float = 3.0,
        fill: float = 0.0,
        p: float = 1.0,
        channels_last: bool = False,
    ) -> None:
        super().__init__(p, channels_last)
        if sigma <= 0:
            raise ArgumentError("ElasticTransform", f"sigma is {sigma!r}", fix="choose it above 0")
        self.alpha, self.sigma, self.fill = alpha, sigma, fill

    def images(self, x: Array, draws: Draws) -> Array:
        """Warped images"""
        n, _, height, width = x.shape
        noise = (2 * draws.uniform(2 * height * width) - 1).reshape(n, 2, height, width)
        # blurring is a product with a band matrix along each dimension
        field = _blur(height, self.sigma) @ noise @ _blur(width, self.sigma).T * self.alpha
        rows = np.arange(height).reshape(1, -1, 1) + field[:, 0]
        return sample(x, rows, np.arange(width).reshape(1, 1, -1) + field[:, 1], self.fill)


def _blur(size: int, sigma: float) -> Array:
    distance = np.arange(size)[:, None] - np.arange(size)
    reach = 4 * sigma
    weights = np.where(np.abs(distance) <= reach, np.exp(-0.5 * (distance / sigma) ** 2), 0.0)
    total = np.exp(-0.5 * (np.arange(-math.floor(reach), math.floor(reach) + 1) / sigma) ** 2).sum()
    band: Array = weights / total
    return band


class RandomBrightness(ImageTransform):
    """x (1 + b), b within +-amount or (low, high)."""

    def __init__(self, amount: Any = 0.2, p: float = 1.0, channels_last: bool = False) -> None:
        super().__init__(p, channels_last)
        self.amount = _range(type(self).__name__, "amount", amount)

    def images(self, x: Array, draws: Draws) -> Array:
        """Lighter or darker images"""
        return _cast(x * _each(1 + draws.between(*self.amount)).astype(np.float32), x)


class RandomContrast(RandomBrightness):
    """mean + (x - mean) (1 + c), c within +-amount or (low, high); the mean is of the image."""

    def images(self, x: Array, draws: Draws) -> Array:
        """Images with more or less contrast"""
        mean = x.mean((1, 2, 3), keepdims=True, dtype=np.float32)
        return _cast(mean + (x - mean) * _each(1 + draws.between(*self.amount)).astype(np.float32), x)


class Cutout(ImageTransform):
    """A square of `size` pixels, about any pixel of the image, filled."""

    def __init__(self, size: int, fill: float = 0.0, p: float = 1.0, channels_last: bool = False) -> None:
        super().__init__(p, channels_last)
        self.size, self.fill = _pair("Cutout", "size", size)[0], fill

    def images(self, x: Array, draws: Draws) -> Array:
        """Images with a hole"""
        top = draws.integers(0, x.shape[2]) - self.size // 2
        left = draws.integers(0, x.shape[3]) - self.size // 2
        return np.where(_boxes(x, top, top + self.size, left, left + self.size), x.dtype.type(self.fill), x)


def _boxes(x: Array, top: Array, bottom: Array, left: Array, right: Array) -> Array:
    """Which pixels are in the box of their image, (n, 1, h, w)."""
    r = np.arange(x.shape[2]).reshape(1, 1, -1, 1)
    c = np.arange(x.shape[3]).reshape(1, 1, 1, -1)
    inside: Array = (r >= _each(top)) & (r < _each(bottom)) & (c >= _each(left)) & (c < _each(right))
    return inside


class RandomErasing(ImageTransform):
    """A rectangle of a random area (share of the image) and ratio (height / width), filled.

    value: a number, or "random" for noise, normal with the mean and deviation of the image.
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float | str = 0.0,
        channels_last: bool = False,
    ) -> None:
        super().__init__(p, channels_last)
        self.scale, self.ratio = (
            _range("RandomErasing", "scale", scale),
            _range("RandomErasing", "ratio", ratio),
        )
        if self.scale[0] < 0 or self.ratio[0] <= 0 or (isinstance(value, str) and value != "random"):
            raise ArgumentError(
                "RandomErasing",
                f"scale {scale!r}, ratio {ratio!r}, value {value!r}",
                fix="use positive ranges, and a number or 'random'",
            )
        self.value = value

    def images(self, x: Array, draws: Draws) -> Array:
        """Images with a rectangle erased"""
        height, width = x.shape[2:]
        area = draws.between(*self.scale) * height * width
        ratio = np.exp(draws.between(math.log(self.ratio[0]), math.log(self.ratio[1])))
        h = np.clip(np.rint(np.sqrt(area * ratio)), 1, height).astype(np.int64)
        w = np.clip(np.rint(np.sqrt(area / ratio)), 1, width).astype(np.int64)
        top, left = draws.integers(0, height - h + 1), draws.integers(0, width - w + 1)
        inside = _boxes(x, top, top + h, left, left + w)
        if self.value == "random":
            mean, deviation = (f((1, 2, 3), keepdims=True, dtype=np.float32) for f in (x.mean, x.std))
            noise = draws.normal(x[0].size).reshape(x.shape) * deviation + mean
            return np.where(inside, _cast(noise, x), x)
        return np.where(inside, x.dtype.type(self.value), x)


class GaussianNoise(Transform):
    """x plus normal noise of deviation `std`, for arrays of any shape."""

    def __init__(self, std: float, p: float = 1.0) -> None:
        super().__init__(p)
        if std < 0:
            raise ArgumentError(type(self).__name__, f"std is {std!r}", fix="choose it at least 0")
        self.std = float(std)

    def change(self, x: Array, draws: Draws) -> Array:
        """Noisy data"""
        noise = draws.normal(x[0].size if len(x) else 0).reshape(x.shape)
        return _cast(x + self.std * noise, x)


# -- mixing ------------------------------------------------------------------------------------------------


class _Mixing(Transform):
    """Labels become rows of class shares: class indices (n,) with `num_classes`, or rows already."""

    pairs = True

    def __init__(self, alpha: float = 1.0, num_classes: int | None = None, p: float = 1.0) -> None:
        super().__init__(p)
        if not alpha > 0:
            raise ArgumentError(type(self).__name__, f"alpha is {alpha!r}", fix="choose it above 0")
        self.alpha, self.num_classes = float(alpha), num_classes
        self._quantiles = _beta_quantiles(self.alpha)

    def _rows(self, y: Array) -> Array:
        if y.ndim > 1 or y.dtype.kind == "f":
            return y.astype(np.float32, copy=False)
        if self.num_classes is None:
            raise ArgumentError(type(self).__name__, "labels are class indices", fix="pass num_classes")
        if len(y) and not 0 <= y.min() <= y.max() < self.num_classes:
            raise ArgumentError(
                type(self).__name__,
                f"labels from {y.min()} to {y.max()}",
                fix=f"num_classes is {self.num_classes}",
            )
        return np.eye(self.num_classes, dtype=np.float32)[y]

    def change_pair(self, x: Array, y: Any, draws: Draws) -> tuple[Array, Any]:
        """Mixed examples and labels"""
        u = draws.uniform(3)
        share = np.interp(u[:, 0], np.linspace(0, 1, len(self._quantiles)), self._quantiles)
        share = np.where(u[:, 1] < self.p, share, 1.0).astype(np.float32)
        partner = np.floor(u[:, 2] * len(x)).astype(np.int64)
        rows = self._rows(np.asarray(y))
        mixed, share = self.mix(x, x[partner], share, draws)
        weight = share.reshape(-1, *[1] * (rows.ndim - 1))
        return mixed, weight * rows + (1 - weight) * rows[partner]

    def mix(self, x: Array, other: Array, share: Array, draws: Draws) -> tuple[Array, Array]:
        """The mixture, and the share of x in it that was made."""
        raise ArgumentError(type(self).__name__, "it mixes nothing", fix="define mix")


def _beta_quantiles(alpha: float, count: int = 4097) -> Array:
    """Quantiles of Beta(alpha, alpha) at even probabilities.

    On [0, 1/2] with t = s^(1/alpha) the density alpha t^(alpha - 1) dt is ds, so what is integrated,
    (1 - t)^(alpha - 1), has no pole; the other half is its mirror image.
    """
    s = np.linspace(0.0, 0.5**alpha, 8193)
    t = s ** (1.0 / alpha)
    density = (1.0 - t) ** (alpha - 1.0)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    lower = np.interp(np.linspace(0, 0.5, count // 2 + 1), below / below[-1] / 2, s) ** (1.0 / alpha)
    quantiles: Array = np.concatenate([lower, 1.0 - lower[-2::-1]])
    return quantiles


class Mixup(_Mixing):
    """l x + (1 - l) x', the labels alike; l from Beta(alpha, alpha) and x' from the same batch."""

    def mix(self, x: Array, other: Array, share: Array, draws: Draws) -> tuple[Array, Array]:
        """Sums"""
        weight = share.reshape(-1, *[1] * (x.ndim - 1))
        return _cast(weight * x + (1 - weight) * other, x), share


class CutMix(_Mixing):
    """A rectangle of another image of the batch pasted in, the labels mixed by area."""

    def __init__(
        self,
        alpha: float = 1.0,
        num_classes: int | None = None,
        p: float = 1.0,
        channels_last: bool = False,
    ) -> None:
        super().__init__(alpha, num_classes, p)
        self.channels_last = bool(channels_last)

    def mix(self, x: Array, other: Array, share: Array, draws: Draws) -> tuple[Array, Array]:
        """Pastes"""
        if x.ndim not in (3, 4):
            raise ShapeError("CutMix", f"images of shape {x.shape}", fix="pass (n, h, w) or (n, c, h, w)")
        shown = x[:, None] if x.ndim == 3 else np.moveaxis(x, 3, 1) if self.channels_last else x
        height, width = shown.shape[2:]
        side = np.sqrt(1.0 - share)
        h, w = np.rint(side * height).astype(np.int64), np.rint(side * width).astype(np.int64)
        top, left = draws.integers(0, height - h + 1), draws.integers(0, width - w + 1)
        inside = _boxes(shown, top, top + h, left, left + w)
        mask = inside[:, 0] if x.ndim == 3 else np.moveaxis(inside, 1, 3) if self.channels_last else inside
        return np.where(mask, other, x), (1.0 - h * w / (height * width)).astype(np.float32)


# -- series --------------------------------------------------------------------------------------------------


class Jitter(GaussianNoise):
    """Noise of deviation `std` on every value of a series."""

    def __init__(self, std: float = 0.03, p: float = 1.0) -> None:
        super().__init__(std, p)


class TimeWarp(Transform):
    """Time runs faster and slower: speeds exp(sigma z) between `knots` + 1 stretches, ends kept; values
    between two moments are interpolated.  Series are (n, time, ...)."""

    def __init__(self, sigma: float = 0.2, knots: int = 4, p: float = 1.0) -> None:
        super().__init__(p)
        if sigma < 0 or knots < 1:
            raise ArgumentError("TimeWarp", f"sigma {sigma!r}, knots {knots!r}", fix="at least 0 and 1")
        self.sigma, self.knots = float(sigma), int(knots)

    def change(self, x: Array, draws: Draws) -> Array:
        """Warped series"""
        if x.ndim < 2 or x.shape[1] < 2:
            raise ShapeError("TimeWarp", f"series of shape {x.shape}", fix="pass (n, time, ...)")
        n, length = x.shape[:2]
        speeds = np.exp(self.sigma * draws.normal(self.knots + 1))
        moments = np.concatenate([np.zeros((n, 1)), np.cumsum(speeds, axis=1)], axis=1)
        moments *= (length - 1) / moments[:, -1:]
        at = np.arange(length) * ((self.knots + 1) / (length - 1))
        left = np.minimum(at.astype(np.int64), self.knots)
        part = at - left
        when = moments[:, left] * (1 - part) + moments[:, left + 1] * part
        first = np.clip(np.floor(when), 0, length - 2).astype(np.int64)
        share = (when - first).astype(np.float32).reshape(n, length, *[1] * (x.ndim - 2))
        row = np.arange(n)[:, None]
        a, b = x[row, first], x[row, first + 1]
        return _cast(
            a + (b - a.astype(np.float32)) * share if x.dtype.kind in "iu" else a + (b - a) * share, x
        )
