"""Losses as modules; the functions, and what they compute, are in `minigrad.nn.functional`.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> logits = mg.tensor([[2.0, 0.0], [0.0, 3.0]])
    >>> nn.CrossEntropyLoss()(logits, mg.tensor([0, 1]))
    tensor(0.0878)

reduction: "mean" (default), "sum" or "none"; size_average and reduce are torch's old words for it.  A
`weight` is a buffer, so it moves with the module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..errors import ArgumentError, DTypeError
from ..tensor import Tensor
from . import functional as F
from .functional.losses import reduction_of
from .module import Module


class _Loss(Module):
    """A loss whose settings, in `settings`, are keyword arguments of its function."""

    function: ClassVar[Callable[..., Tensor]]
    settings: ClassVar[tuple[str, ...]] = ()
    more: ClassVar[tuple[str, ...]] = ()  # reductions beyond the three

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__()
        self.reduction = reduction_of(type(self).__name__, reduction, size_average, reduce, self.more)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of predictions and targets."""
        return self._apply(input, target)

    def _apply(self, *tensors: Any) -> Tensor:
        settings = {name: getattr(self, name) for name in self.settings}
        return type(self).function(*tensors, reduction=self.reduction, **settings)

    def _weight(self, name: str, weight: Any) -> None:
        if weight is not None and not isinstance(weight, Tensor):
            raise DTypeError(
                type(self).__name__, f"the {name} is a {type(weight).__name__}", fix="pass mg.tensor([...])"
            )
        self.register_buffer(name, weight)


class MSELoss(_Loss):
    """The mean of (input - target)^2."""

    function = staticmethod(F.mse_loss)


class L1Loss(_Loss):
    """The mean of |input - target|."""

    function = staticmethod(F.l1_loss)


class SmoothL1Loss(_Loss):
    """d^2 / (2 beta) where d = |input - target| is below beta, d - beta / 2 elsewhere."""

    function = staticmethod(F.smooth_l1_loss)
    settings = ("beta",)

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        beta: float = 1.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.beta = beta


class HuberLoss(_Loss):
    """d^2 / 2 where d = |input - target| is at most delta, delta * (d - delta / 2) elsewhere."""

    function = staticmethod(F.huber_loss)
    settings = ("delta",)

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = delta


class CrossEntropyLoss(_Loss):
    """-log softmax(input) at the target class, for logits of shape (n, classes, ...).

    weight: one factor a class.  ignore_index: a target that does not count.  label_smoothing:
    this share of the target is spread over all classes.  The target has class indices (n, ...), or class
    probabilities of the input's shape.
    """

    function = staticmethod(F.cross_entropy)
    settings = ("weight", "ignore_index", "label_smoothing")
    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self._weight("weight", weight)
        self.ignore_index = ignore_index
        if not 0.0 <= label_smoothing <= 1.0:
            raise ArgumentError(
                "CrossEntropyLoss", f"label_smoothing is {label_smoothing}", fix="pass a number from 0 to 1"
            )
        self.label_smoothing = label_smoothing


class NLLLoss(_Loss):
    """-input at the target class, for log-probabilities of shape (n, classes, ...)."""

    function = staticmethod(F.nll_loss)
    settings = ("weight", "ignore_index")
    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self._weight("weight", weight)
        self.ignore_index = ignore_index


class _Weighted(_Loss):
    settings = ("weight",)
    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self._weight("weight", weight)


class BCELoss(_Weighted):
    """-(t log p + (1 - t) log(1 - p)) for probabilities p."""

    function = staticmethod(F.binary_cross_entropy)


class MultiLabelSoftMarginLoss(_Weighted):
    """`BCEWithLogitsLoss`, averaged over classes first."""

    function = staticmethod(F.multilabel_soft_margin_loss)


class BCEWithLogitsLoss(_Loss):
    """`BCELoss` of sigmoid(input), computed without overflow; pos_weight: a factor for positive targets."""

    function = staticmethod(F.binary_cross_entropy_with_logits)
    settings = ("weight", "pos_weight")
    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self._weight("weight", weight)
        self._weight("pos_weight", pos_weight)


class KLDivLoss(_Loss):
    """target * (log(target) - input), for log-probabilities input; use reduction "batchmean"."""

    function = staticmethod(F.kl_div)
    settings = ("log_target",)
    more = ("batchmean",)

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target


class SoftMarginLoss(_Loss):
    """log(1 + exp(-target * input)), for targets 1 and -1."""

    function = staticmethod(F.soft_margin_loss)


class HingeEmbeddingLoss(_Loss):
    """The distance x itself where the target is 1, max(0, margin - x) where it is -1."""

    function = staticmethod(F.hinge_embedding_loss)
    settings = ("margin",)

    def __init__(
        self,
        margin: float = 1.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin


class _OfTwo(_Loss):
    settings = ("margin",)

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:  # type: ignore[override]
        """The loss of two inputs and targets 1 or -1."""
        return self._apply(input1, input2, target)


class CosineEmbeddingLoss(_OfTwo):
    """1 - cos for pairs that are alike (target 1), max(0, cos - margin) for those that are not (-1)."""

    function = staticmethod(F.cosine_embedding_loss)


class MarginRankingLoss(_OfTwo):
    """max(0, margin - target * (input1 - input2)): target 1 if the first shall rank higher, else -1."""

    function = staticmethod(F.margin_ranking_loss)


class MultiMarginLoss(_Loss):
    """sum over the other classes of max(0, margin - x[t] + x[j])^p, divided by their number."""

    function = staticmethod(F.multi_margin_loss)
    settings = ("p", "margin", "weight")
    weight: Tensor | None

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        if p not in (1, 2):
            raise ArgumentError("MultiMarginLoss", f"p is {p!r}", fix="use 1 or 2")
        self.p = p
        self.margin = margin
        self._weight("weight", weight)


class TripletMarginLoss(_Loss):
    """max(0, margin + d(anchor, positive) - d(anchor, negative)), d being the p-norm of the difference."""

    function = staticmethod(F.triplet_margin_loss)
    settings = ("margin", "p", "eps", "swap")

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        if margin <= 0:
            raise ArgumentError("TripletMarginLoss", f"margin is {margin}", fix="it must be positive")
        self.margin = margin
        self.p = p
        self.eps = eps
        self.swap = swap

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:  # type: ignore[override]
        """The loss of triplets of one shape."""
        return self._apply(anchor, positive, negative)


class TripletMarginWithDistanceLoss(_Loss):
    """`TripletMarginLoss` with a distance of one's own, the Euclidean one by default."""

    function = staticmethod(F.triplet_margin_with_distance_loss)
    settings = ("distance_function", "margin", "swap")

    def __init__(
        self,
        *,
        distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.distance_function = distance_function
        self.margin = margin
        self.swap = swap

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:  # type: ignore[override]
        """The loss of triplets of one shape."""
        return self._apply(anchor, positive, negative)


class PoissonNLLLoss(_Loss):
    """exp(x) - t x for a count t whose expectation is exp(x); x - t log(x + eps) with log_input=False."""

    function = staticmethod(F.poisson_nll_loss)
    settings = ("log_input", "full", "eps")

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: bool | None = None,
        eps: float = 1e-8,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_input = log_input
        self.full = full
        self.eps = eps

    def forward(self, log_input: Tensor, target: Tensor) -> Tensor:
        """The loss of log-expectations (or expectations) and counts of one shape."""
        return self._apply(log_input, target)


class GaussianNLLLoss(_Loss):
    """(log v + (input - target)^2 / v) / 2 for a predicted variance v, limited to at least eps."""

    function = staticmethod(F.gaussian_nll_loss)
    settings = ("full", "eps")

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.full = full
        self.eps = eps

    def forward(self, input: Tensor, target: Tensor, var: Any) -> Tensor:  # type: ignore[override]
        """The loss of means, targets and variances."""
        return self._apply(input, target, var)


class CTCLoss(_Loss):
    """-log of the probability of a label sequence, however it is aligned (Graves et al. 2006)."""

    function = staticmethod(F.ctc_loss)
    settings = ("blank", "zero_infinity")

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.blank = blank
        self.zero_infinity = zero_infinity

    def forward(  # type: ignore[override]
        self, log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any
    ) -> Tensor:
        """The loss of log-probabilities (time, n, classes) and targets (n, longest), with their lengths."""
        return self._apply(log_probs, targets, input_lengths, target_lengths)
