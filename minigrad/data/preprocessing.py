"""Preprocessing: what is learned from the training data and applied to all.

    fit(x)                 learn from the training part only: anything else leaks the test into the model
    transform(x)           apply
    inverse_transform(z)   back to the units of x
    state_dict()           arrays and numbers, saved with the model: `Trainer(saved={"scaler": scaler})`

    >>> import numpy as np
    >>> scaler = StandardScaler()
    >>> z = scaler.fit_transform([[1.0, 10.0], [3.0, 10.0]])
    >>> z.tolist(), scaler.inverse_transform(z).tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [[1.0, 10.0], [3.0, 10.0]])
    >>> words = Tokenizer().fit(["the cat sat", "the dog"])
    >>> words.transform(["the dog barked"]).tolist(), words.inverse_transform([[2, 4, 1]])
    ([[2, 4, 1]], ['the dog <unk>'])

Statistics are over the first dimension, in float64, and ignore nothing: a NaN is an error that names its
place, unless the class is there to fill it in.  Names are those of `sklearn.preprocessing`.  Left out:
sparse matrices, target encoding.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..tensor import Tensor

Array = np.ndarray[Any, Any]
P = TypeVar("P", bound="Preprocessor")


class Preprocessor:
    """Base: `learned` names the attributes that `fit` sets; options are attributes too."""

    #: What `fit` learns.
    learned: tuple[str, ...] = ()
    #: What the constructor was given, and transform depends on.
    options: tuple[str, ...] = ()

    @property
    def _name(self) -> str:
        return type(self).__name__

    def fit(self: P, x: Any) -> P:
        """Learn from data; returns self."""
        raise ArgumentError(self._name, "it learns nothing", fix="define fit(self, x)")

    def transform(self, x: Any) -> Any:
        """Apply what was learned."""
        raise ArgumentError(self._name, "it transforms nothing", fix="define transform(self, x)")

    def inverse_transform(self, x: Any) -> Any:
        """Undo `transform`."""
        raise ArgumentError(self._name, "it cannot be undone", fix="keep the data from before")

    def fit_transform(self, x: Any) -> Any:
        """`fit`, then `transform`, of the same data."""
        return self.fit(x).transform(x)

    def __call__(self, x: Any) -> Any:
        """`transform`"""
        return self.transform(x)

    def state_dict(self) -> dict[str, Any]:
        """Options and what was learned: numbers, strings, arrays."""
        return {
            "kind": self._name,
            **{n: getattr(self, n) for n in self.options},
            **{n: getattr(self, n, None) for n in self.learned},
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue with a saved state.  Raises ArgumentError for that of another class."""
        wanted = {"kind", *self.options, *self.learned}
        if set(state_dict) != wanted or state_dict["kind"] != self._name:
            raise ArgumentError(
                f"{self._name}.load_state_dict",
                f"a state of {state_dict.get('kind', 'something else')} with {sorted(state_dict)}",
                fix=f"a {self._name} needs {sorted(wanted)}",
            )
        for name, value in state_dict.items():
            if name != "kind":
                setattr(self, name, value)
        self._loaded()

    def _loaded(self) -> None:
        """Make again what is derived from a state."""

    def _fitted(self) -> None:
        if self.learned and getattr(self, self.learned[0], None) is None:
            raise ArgumentError(self._name, "it has not seen any data", fix="call fit(training_data) first")

    def _numbers(self, x: Any, missing: bool = False) -> Array:
        """x as floats with examples along the first dimension; NaN and Inf only if `missing`."""
        array = x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise DTypeError(
                self._name, f"data of dtype {array.dtype}", fix="pass numbers; encode categories first"
            )
        if not array.ndim or not len(array):
            raise ShapeError(self._name, f"data of shape {array.shape}", fix="pass (n, ...) with n >= 1")
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
        if not missing and not np.isfinite(array).all():
            at = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
            raise ArgumentError(
                self._name,
                f"x{list(at)} is {array[at]}",
                fix="fill in missing values with SimpleImputer first",
            )
        return array

    def _like(self, x: Array, learned: Array) -> None:
        if x.shape[1:] != learned.shape:
            raise ShapeError(
                self._name,
                f"examples of shape {x.shape[1:]} where it was fitted on {learned.shape}",
                fix="pass the same columns",
            )


class _Scaler(Preprocessor):
    """z = (x - center) / scale, a constant column having the scale 1."""

    learned = ("center_", "scale_")
    center_: Array
    scale_: Array

    def _learn(self, center: Any, scale: Any) -> None:
        scale = np.asarray(scale)
        # what rounding leaves of a constant is no spread
        tiny = 10 * np.finfo(np.float64).eps * np.maximum(np.abs(center), 1e-300)
        self.center_, self.scale_ = np.asarray(center), np.where(scale <= tiny, 1.0, scale)

    def transform(self, x: Any) -> Array:
        """(x - center) / scale, in the dtype of x"""
        self._fitted()
        array = self._numbers(x)
        self._like(array, self.center_)
        z: Array = (array - self.center_) / self.scale_
        return z.astype(array.dtype)

    def inverse_transform(self, x: Any) -> Array:
        """z scale + center"""
        self._fitted()
        array = self._numbers(x)
        self._like(array, self.center_)
        back: Array = array * self.scale_ + self.center_
        return back.astype(array.dtype)


class StandardScaler(_Scaler):
    """Mean 0 and standard deviation 1 for each column."""

    def fit(self, x: Any) -> StandardScaler:
        """Learn means and (biased) deviations"""
        array = self._numbers(x)
        self._learn(array.mean(0, dtype=np.float64), array.std(0, dtype=np.float64))
        return self


class MinMaxScaler(_Scaler):
    """Each column from its smallest and largest value to `feature_range`."""

    options = ("feature_range",)

    def __init__(self, feature_range: tuple[float, float] = (0.0, 1.0)) -> None:
        low, high = feature_range
        if not low < high:
            raise ArgumentError("MinMaxScaler", f"feature_range is {feature_range!r}", fix="pass (low, high)")
        self.feature_range = (float(low), float(high))

    def fit(self, x: Any) -> MinMaxScaler:
        """Learn the ranges"""
        array = self._numbers(x).astype(np.float64)
        low, high = self.feature_range
        smallest = array.min(0)
        spread = array.max(0) - smallest
        scale = np.where(spread == 0, 1.0, spread / (high - low))
        self._learn(smallest - low * scale, scale)
        self.scale_ = scale
        return self


class RobustScaler(_Scaler):
    """Median 0, and 1 between two quantiles (the quartiles), which outliers do not move."""

    options = ("quantile_range",)

    def __init__(self, quantile_range: tuple[float, float] = (25.0, 75.0)) -> None:
        low, high = quantile_range
        if not 0 <= low < high <= 100:
            raise ArgumentError(
                "RobustScaler", f"quantile_range is {quantile_range!r}", fix="pass two percentages"
            )
        self.quantile_range = (float(low), float(high))

    def fit(self, x: Any) -> RobustScaler:
        """Learn medians and ranges"""
        array = self._numbers(x).astype(np.float64)
        low, middle, high = np.percentile(
            array, (self.quantile_range[0], 50.0, self.quantile_range[1]), axis=0
        )
        self._learn(middle, high - low)
        return self


class SimpleImputer(Preprocessor):
    """Missing numbers (NaN) filled in by column: "mean", "median", "most_frequent" or "constant".

    A column without any number becomes fill_value, 0 by default.
    """

    learned = ("statistics_",)
    options = ("strategy", "fill_value")
    statistics_: Array

    def __init__(self, strategy: str = "mean", fill_value: float = 0.0) -> None:
        if strategy not in ("mean", "median", "most_frequent", "constant"):
            raise ArgumentError(
                "SimpleImputer",
                f"strategy is {strategy!r}",
                fix="use 'mean', 'median', 'most_frequent' or 'constant'",
            )
        self.strategy, self.fill_value = strategy, float(fill_value)

    def fit(self, x: Any) -> SimpleImputer:
        """Learn what to fill in"""
        array = self._numbers(x, missing=True).astype(np.float64)
        flat = array.reshape(len(array), -1)
        self.statistics_ = np.array([self._value(c[~np.isnan(c)]) for c in flat.T]).reshape(array.shape[1:])
        return self

    def _value(self, column: Array) -> float:
        if self.strategy == "constant" or not len(column):
            return self.fill_value
        if self.strategy == "most_frequent":
            values, counts = np.unique(column, return_counts=True)
            return float(values[counts.argmax()])
        return float(np.mean(column) if self.strategy == "mean" else np.median(column))

    def transform(self, x: Any) -> Array:
        """x without NaN"""
        self._fitted()
        array = self._numbers(x, missing=True)
        self._like(array, self.statistics_)
        filled: Array = np.where(np.isnan(array), self.statistics_, array).astype(array.dtype)
        return filled


class LabelEncoder(Preprocessor):
    """Labels (strings or integers) as class indices 0 to n - 1, in sorted order."""

    learned = ("classes_",)
    classes_: list[Any]

    def _labels(self, y: Any) -> list[Any]:
        array = y.numpy() if isinstance(y, Tensor) else np.asarray(y)
        if array.ndim != 1 or array.dtype.kind not in "iubUO":
            raise DTypeError(
                self._name,
                f"labels of dtype {array.dtype} and shape {array.shape}",
                fix="pass a list of strings or integers",
            )
        return array.tolist()  # type: ignore[no-any-return]

    def fit(self, x: Any) -> LabelEncoder:
        """Learn the classes"""
        labels = self._labels(x)
        try:
            self.classes_ = sorted(set(labels))
        except TypeError:
            raise DTypeError(
                self._name, "the labels are of several kinds", fix="make all strings or all integers"
            ) from None
        self._loaded()
        return self

    def _loaded(self) -> None:
        self._index = {label: i for i, label in enumerate(self.classes_ or ())}

    def transform(self, x: Any) -> Array:
        """(n,) int64"""
        self._fitted()
        labels = self._labels(x)
        unknown = sorted({str(label) for label in labels if label not in self._index})
        if unknown:
            raise ArgumentError(
                self._name,
                f"labels it has not seen: {', '.join(unknown[:5])}",
                fix=f"it knows {', '.join(map(str, self.classes_[:10]))}",
            )
        return np.array([self._index[label] for label in labels], np.int64)

    def inverse_transform(self, x: Any) -> list[Any]:
        """The labels of indices"""
        self._fitted()
        indices = np.asarray(x.numpy() if isinstance(x, Tensor) else x)
        if indices.dtype.kind not in "iu" or (
            indices.size and not 0 <= indices.min() <= indices.max() < len(self.classes_)
        ):
            raise ArgumentError(
                self._name,
                "these are no class indices",
                fix=f"pass integers from 0 to {len(self.classes_) - 1}",
            )
        return [self.classes_[int(i)] for i in indices]


class OneHotEncoder(LabelEncoder):
    """Labels as rows of 0 and a 1, (n, classes) float32; unknown labels are an error, or rows of 0."""

    options = ("handle_unknown",)

    def __init__(self, handle_unknown: str = "error") -> None:
        if handle_unknown not in ("error", "ignore"):
            raise ArgumentError(
                "OneHotEncoder", f"handle_unknown is {handle_unknown!r}", fix="use 'error' or 'ignore'"
            )
        self.handle_unknown = handle_unknown

    def transform(self, x: Any) -> Array:
        """(n, classes) float32"""
        self._fitted()
        if self.handle_unknown == "error":
            return np.eye(len(self.classes_), dtype=np.float32)[super().transform(x)]
        table = np.eye(len(self.classes_) + 1, len(self.classes_), dtype=np.float32)
        return table[[self._index.get(label, len(self.classes_)) for label in self._labels(x)]]

    def inverse_transform(self, x: Any) -> list[Any]:
        """The label of the largest entry of each row; None for a row of 0"""
        self._fitted()
        rows = np.asarray(x.numpy() if isinstance(x, Tensor) else x)
        if rows.ndim != 2 or rows.shape[1] != len(self.classes_):
            raise ShapeError(self._name, f"rows of shape {rows.shape}", fix=f"pass (n, {len(self.classes_)})")
        return [self.classes_[int(r.argmax())] if r.any() else None for r in rows]


class Tokenizer(Preprocessor):
    """Text to ids, (n, longest) int64: 0 pads, 1 is any unknown word, then words by frequency.

    num_words: at most this many words.  lower: forget capitals.  level: "word" (letters, digits and
    apostrophes; each other sign alone) or "char".  length: pad and cut to this many ids.
    """

    learned = ("words_",)
    options = ("num_words", "lower", "level", "length")
    words_: list[str]

    def __init__(
        self,
        num_words: int | None = None,
        lower: bool = True,
        level: str = "word",
        length: int | None = None,
    ) -> None:
        if level not in ("word", "char"):
            raise ArgumentError("Tokenizer", f"level is {level!r}", fix="use 'word' or 'char'")
        self.num_words, self.lower, self.level, self.length = num_words, lower, level, length

    def split(self, text: str) -> list[str]:
        """The tokens of a text"""
        if not isinstance(text, str):
            raise DTypeError(self._name, f"a text of type {type(text).__name__}", fix="pass strings")
        text = text.lower() if self.lower else text
        return list(text) if self.level == "char" else re.findall(r"[\w']+|[^\w\s]", text)

    def fit(self, x: Iterable[str]) -> Tokenizer:
        """Learn the words of texts"""
        if isinstance(x, str):
            raise DTypeError(self._name, "one string instead of a list of them", fix="pass [text]")
        counts = Counter(token for text in x for token in self.split(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        self.words_ = ["<pad>", "<unk>", *ranked[: self.num_words]]
        self._loaded()
        return self

    def _loaded(self) -> None:
        self._index = {word: i for i, word in enumerate(self.words_ or ())}

    def __len__(self) -> int:
        """The number of ids."""
        self._fitted()
        return len(self.words_)

    def transform(self, x: Sequence[str]) -> Array:
        """(n, length) int64"""
        self._fitted()
        if isinstance(x, str):
            raise DTypeError(self._name, "one string instead of a list of them", fix="pass [text]")
        rows = [[self._index.get(token, 1) for token in self.split(text)] for text in x]
        width = max(map(len, rows), default=0) if self.length is None else self.length
        ids = np.zeros((len(rows), width), np.int64)
        for target, row in zip(ids, rows, strict=True):
            target[: len(row)] = row[:width]
        return ids

    def inverse_transform(self, x: Any) -> list[str]:
        """Texts of ids, words parted by spaces, without padding"""
        self._fitted()
        between = "" if self.level == "char" else " "
        rows = x.tolist() if hasattr(x, "tolist") else x
        return [between.join(self.words_[i] for i in row if i) for row in rows]


class Pipeline(Preprocessor):
    """Several steps, each fitted on what the ones before make of the data."""

    def __init__(self, *steps: Preprocessor) -> None:
        if not steps or not all(isinstance(s, Preprocessor) for s in steps):
            raise DTypeError("Pipeline", "not all steps are preprocessors", fix="pass one or more of them")
        self.steps = steps

    def fit(self, x: Any) -> Pipeline:
        """Fit the steps in order"""
        for i, step in enumerate(self.steps):
            step.fit(x)
            if i + 1 < len(self.steps):
                x = step.transform(x)
        return self

    def transform(self, x: Any) -> Any:
        """All steps"""
        for step in self.steps:
            x = step.transform(x)
        return x

    def inverse_transform(self, x: Any) -> Any:
        """All steps undone, the last one first"""
        for step in reversed(self.steps):
            x = step.inverse_transform(x)
        return x

    def state_dict(self) -> dict[str, Any]:
        """The states of the steps"""
        return {"kind": self._name, "steps": [step.state_dict() for step in self.steps]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue with a saved state"""
        parts = state_dict.get("steps")
        if state_dict.get("kind") != self._name or parts is None or len(parts) != len(self.steps):
            raise ArgumentError(
                "Pipeline.load_state_dict",
                f"the state has not {len(self.steps)} steps",
                fix="build the same one",
            )
        for step, part in zip(self.steps, parts, strict=True):
            step.load_state_dict(part)
