"""Every module with settings to try it with: what the peer test and the law of capture walk over.

A sample is the class name, its arguments, what to call it with, and how.  A new module is tested by adding
one.  Inputs are shapes (normal numbers are drawn), arrays, or functions of a generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One module and one call of it."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[Any, ...] = ()
    call: dict[str, Any] = field(default_factory=dict)
    random: bool = False  # draws random numbers in training

    def __str__(self) -> str:
        parts = [*map(_short, self.args), *(f"{k}={_short(v)}" for k, v in self.kwargs.items())]
        parts += list(self.call)
        return f"{self.name}({', '.join(parts)})"

    def run(self, library: Any, module: Any, tensors: list[Any], tensor: Any) -> list[Any]:
        """Call the module: all tensors that it returns, in order.  `library` is minigrad or torch."""
        if self.name == "CTCLoss":  # of log-probabilities that are: see `minigrad.ops.ctc` for why
            tensors = [library.nn.functional.log_softmax(tensors[0], -1), *tensors[1:]]
        call = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in self.call.items()}
        return list(_flat(module(*tensors, **call)))

    def make(self, library: Any, tensor: Any) -> Any:
        """The module, in float64."""
        args = [tensor(v) if isinstance(v, np.ndarray) else v for v in self.args]
        kwargs = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in self.kwargs.items()}
        return getattr(library.nn, self.name)(*args, **kwargs).double()

    def draw(self, rng: Any) -> list[Any]:
        """The inputs as arrays."""
        return [
            x(rng) if callable(x) else rng.normal(size=x) if isinstance(x, tuple) else x for x in self.inputs
        ]


def _short(value: Any) -> str:
    return f"array{value.shape}" if isinstance(value, np.ndarray) else str(value)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _flat(part)
    elif value is not None:
        yield value


def positive(*shape: int) -> Any:
    """Numbers from 0.1 to 0.9."""
    return lambda rng: rng.uniform(0.1, 0.9, size=shape)


def signs(*shape: int) -> Any:
    """1 and -1, as floats."""
    return lambda rng: np.where(rng.random(size=shape) < 0.5, -1.0, 1.0)


def classes(count: int, *shape: int) -> Any:
    """Class labels."""
    return lambda rng: rng.integers(0, count, size=shape)


def simplex(*shape: int) -> Any:
    """Rows of probabilities along dimension 1."""
    return lambda rng: np.moveaxis(rng.dirichlet(np.ones(shape[1]), size=(shape[0], *shape[2:])), -1, 1)


def log_simplex(*shape: int) -> Any:
    """Their logarithms."""
    return lambda rng: np.log(simplex(*shape)(rng))


def S(name: str, *args: Any, inputs: Any, call: Any = None, random: bool = False, **kwargs: Any) -> Sample:
    """A sample, written briefly; `inputs` is one shape or a list."""
    many = inputs if isinstance(inputs, list) else [inputs]
    return Sample(name, args, kwargs, tuple(many), call or {}, random)


IMAGE, SEQUENCE = (2, 4, 7, 6), (2, 4, 9)

ACTIVATIONS = [
    *[
        S(name, inputs=(3, 4))
        for name in [
            "ReLU",
            "ReLU6",
            "SELU",
            "SiLU",
            "Mish",
            "Hardswish",
            "Hardsigmoid",
            "Hardtanh",
            "LeakyReLU",
            "ELU",
            "CELU",
            "GELU",
            "Sigmoid",
            "LogSigmoid",
            "Tanh",
            "Tanhshrink",
            "Softsign",
            "Softshrink",
            "Hardshrink",
            "Softplus",
            "Softmin",
            "Softmax",
            "LogSoftmax",
            "PReLU",
        ]
    ],
    S("Hardtanh", -0.5, 2.0, inputs=(3, 4)),
    S("LeakyReLU", 0.2, inputs=(3, 4)),
    S("ELU", 0.7, inputs=(3, 4)),
    S("CELU", 0.7, inputs=(3, 4)),
    S("GELU", approximate="tanh", inputs=(3, 4)),
    S("Threshold", 0.2, -3.0, inputs=(3, 4)),
    S("Softshrink", 0.3, inputs=(3, 4)),
    S("Hardshrink", lambd=0.3, inputs=(3, 4)),
    S("Softplus", 2.0, 1.0, inputs=(3, 4)),
    S("GLU", inputs=(3, 4)),
    S("GLU", 1, inputs=(3, 4, 5)),
    S("PReLU", 4, 0.1, inputs=(3, 4, 5)),
    S("PReLU", inputs=(4,)),
    S("RReLU", 0.1, 0.3, inputs=(3, 4), random=True),
    S("Softmax", -1, inputs=(3, 4)),
    S("Softmin", 0, inputs=(3, 4)),
    S("LogSoftmax", 0, inputs=(3, 4)),
    S("Softmax", inputs=(2, 3, 4)),
    S("Softmax2d", inputs=IMAGE),
]

LAYERS = [
    S("Identity", inputs=(3, 4)),
    S("Flatten", inputs=(3, 4, 2)),
    S("Flatten", 0, 1, inputs=(3, 4, 2)),
    S("Unflatten", 1, (2, -1), inputs=(3, 4)),
    S("Linear", 5, 3, inputs=(4, 5)),
    S("Linear", 5, 3, bias=False, inputs=(2, 4, 5)),
    S("Linear", 5, 3, inputs=(5,)),
    S("Bilinear", 3, 4, 2, inputs=[(5, 3), (5, 4)]),
    S("Bilinear", 3, 4, 2, bias=False, inputs=[(2, 5, 3), (2, 5, 4)]),
    S("Dropout", 0.0, inputs=(3, 4)),
    S("Dropout", 0.4, inputs=(3, 4), random=True),
    S("Dropout1d", 0.4, inputs=SEQUENCE, random=True),
    S("Dropout2d", 0.4, inputs=IMAGE, random=True),
    S("Embedding", 5, 3, inputs=classes(5, 2, 3)),
    S("Embedding", 5, 3, padding_idx=2, inputs=classes(5, 2, 3)),
    S("Embedding", 5, 3, padding_idx=-1, inputs=classes(5, 7)),
    S("CosineSimilarity", inputs=[(4, 5), (4, 5)]),
    S("CosineSimilarity", 0, 0.5, inputs=[(4, 5), (4, 5)]),
    S("PairwiseDistance", inputs=[(4, 5), (4, 5)]),
    S("PairwiseDistance", 1.0, 1e-3, True, inputs=[(4, 5), (4, 5)]),
    S("PairwiseDistance", 3.0, inputs=[(4, 5), (4, 5)]),
]

CONVOLUTIONS = [
    S("Conv1d", 4, 6, 3, inputs=SEQUENCE),
    S("Conv1d", 4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False, inputs=SEQUENCE),
    S("Conv1d", 4, 6, 4, padding="same", inputs=SEQUENCE),
    S("Conv1d", 4, 6, 3, padding=2, padding_mode="circular", inputs=SEQUENCE),
    S("Conv1d", 4, 6, 3, inputs=(4, 9)),
    S("Conv2d", 4, 6, 3, inputs=IMAGE),
    S("Conv2d", 4, 6, (3, 2), stride=2, padding=(1, 0), groups=2, bias=False, inputs=IMAGE),
    S("Conv2d", 4, 6, 3, padding="same", dilation=2, inputs=IMAGE),
    S("Conv2d", 4, 6, 3, padding="valid", inputs=IMAGE),
    *[
        S("Conv2d", 4, 6, 3, padding=(1, 2), padding_mode=mode, inputs=IMAGE)
        for mode in ("reflect", "replicate", "circular")
    ],
    S("Conv2d", 4, 6, (4, 3), padding="same", padding_mode="reflect", inputs=IMAGE),
    S("Conv2d", 4, 6, 3, inputs=(4, 7, 6)),
    S("Conv3d", 4, 6, (2, 3, 2), inputs=(2, 4, 4, 5, 4)),
    S("Conv3d", 4, 6, 2, stride=(2, 1, 2), padding=1, dilation=(1, 2, 1), groups=2, inputs=(2, 4, 4, 5, 4)),
    S("Conv3d", 4, 2, (2, 3, 1), padding="same", bias=False, inputs=(4, 4, 5, 4)),
    S("Conv3d", 4, 2, 3, padding=1, padding_mode="replicate", inputs=(1, 4, 3, 3, 3)),
    S("ConvTranspose1d", 4, 6, 3, inputs=SEQUENCE),
    S("ConvTranspose1d", 4, 6, 3, 2, 1, 1, 2, False, 2, inputs=SEQUENCE),
    S("ConvTranspose2d", 4, 6, 3, inputs=IMAGE),
    S(
        "ConvTranspose2d",
        4,
        6,
        (3, 2),
        stride=(2, 3),
        padding=1,
        output_padding=(1, 2),
        groups=2,
        dilation=(2, 1),
        inputs=IMAGE,
    ),
    S("ConvTranspose2d", 4, 6, 3, stride=2, bias=False, inputs=IMAGE, call={"output_size": [16, 13]}),
]

POOLING = [
    S("MaxPool1d", 2, inputs=SEQUENCE),
    S("MaxPool1d", 3, stride=2, padding=1, dilation=2, ceil_mode=True, inputs=SEQUENCE),
    S("MaxPool2d", 2, inputs=IMAGE),
    S("MaxPool2d", 3, stride=2, padding=1, ceil_mode=True, inputs=IMAGE),
    S("MaxPool2d", (2, 3), stride=(1, 2), dilation=(2, 1), return_indices=True, inputs=IMAGE),
    S("AvgPool1d", 2, inputs=SEQUENCE),
    S("AvgPool1d", 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False, inputs=SEQUENCE),
    S("AvgPool2d", 2, inputs=IMAGE),
    S("AvgPool2d", 3, stride=2, padding=1, count_include_pad=False, inputs=IMAGE),
    S("AvgPool2d", (3, 2), ceil_mode=True, divisor_override=5, inputs=IMAGE),
    S("AdaptiveAvgPool1d", 4, inputs=SEQUENCE),
    S("AdaptiveAvgPool2d", 1, inputs=IMAGE),
    S("AdaptiveAvgPool2d", (3, None), inputs=IMAGE),
    S("AdaptiveMaxPool1d", 4, inputs=SEQUENCE),
    S("AdaptiveMaxPool2d", (3, 4), inputs=IMAGE),
    S("AdaptiveMaxPool2d", (None, 2), return_indices=True, inputs=IMAGE),
]

NORMS = [
    S("BatchNorm1d", 4, inputs=(5, 4)),
    S("BatchNorm1d", 4, momentum=None, affine=False, inputs=(5, 4, 3)),
    S("BatchNorm2d", 4, momentum=0.3, eps=1e-3, inputs=(3, 4, 2, 5)),
    S("BatchNorm2d", 4, track_running_stats=False, inputs=(3, 4, 2, 5)),
    S("BatchNorm2d", 4, momentum=None, inputs=(3, 4, 2, 5)),
    S("BatchNorm2d", 4, bias=False, inputs=(3, 4, 2, 5)),
    S("BatchNorm3d", 4, inputs=(3, 4, 2, 3, 2)),
    S("LayerNorm", 5, inputs=(4, 5)),
    S("LayerNorm", (4, 5), bias=False, inputs=(3, 4, 5)),
    S("LayerNorm", 5, eps=0.1, elementwise_affine=False, inputs=(4, 5)),
    S("RMSNorm", 5, inputs=(4, 5)),
    S("RMSNorm", (4, 5), eps=0.1, inputs=(3, 4, 5)),
    S("RMSNorm", 5, elementwise_affine=False, inputs=(4, 5)),
    S("GroupNorm", 2, 4, inputs=IMAGE),
    S("GroupNorm", 2, 4, bias=False, inputs=IMAGE),
    S("GroupNorm", 1, 4, eps=0.1, affine=False, inputs=(3, 4)),
    S("InstanceNorm1d", 4, inputs=SEQUENCE),
    S("InstanceNorm2d", 4, affine=True, eps=1e-2, inputs=IMAGE),
    S("InstanceNorm2d", 4, momentum=0.3, track_running_stats=True, affine=True, inputs=IMAGE),
    S("InstanceNorm2d", 4, inputs=(4, 5, 3)),
    S("InstanceNorm3d", 4, inputs=(2, 4, 2, 3, 2)),
]

RESAMPLING = [
    S("Upsample", scale_factor=2, inputs=SEQUENCE),
    S("Upsample", size=(9, 4), inputs=IMAGE),
    S("Upsample", scale_factor=1.7, mode="nearest-exact", inputs=IMAGE),
    S("Upsample", scale_factor=1.5, mode="linear", inputs=SEQUENCE),
    S("Upsample", size=17, mode="linear", align_corners=True, inputs=SEQUENCE),
    S("Upsample", scale_factor=(2.0, 1.3), mode="bilinear", inputs=IMAGE),
    S("Upsample", scale_factor=1.3, mode="bilinear", recompute_scale_factor=True, inputs=IMAGE),
    S("Upsample", size=(5, 9), mode="bilinear", align_corners=True, inputs=IMAGE),
    S("Upsample", scale_factor=2.5, mode="bicubic", inputs=IMAGE),
    S("Upsample", size=(4, 11), mode="bicubic", align_corners=True, inputs=IMAGE),
    S("Upsample", scale_factor=2, mode="trilinear", inputs=(1, 2, 2, 3, 2)),
    S("UpsamplingNearest2d", scale_factor=3, inputs=IMAGE),
    S("UpsamplingBilinear2d", scale_factor=2, inputs=IMAGE),
    S("PixelShuffle", 2, inputs=(2, 8, 3, 2)),
    S("PixelUnshuffle", 2, inputs=(2, 3, 4, 6)),
    S("Unfold", 2, inputs=IMAGE),
    S("Unfold", (2, 3), dilation=(2, 1), padding=1, stride=(1, 2), inputs=IMAGE),
    S("Fold", (4, 5), 2, inputs=(2, 12, 12)),
    S("Fold", (4, 5), (2, 3), padding=1, stride=(1, 2), inputs=(2, 12, 15)),
    S("ConstantPad1d", 2, 0.5, inputs=SEQUENCE),
    S("ConstantPad2d", (1, 2, -1, 0), 0.5, inputs=IMAGE),
    S("ZeroPad1d", (1, 2), inputs=SEQUENCE),
    S("ZeroPad2d", 2, inputs=IMAGE),
    S("ReflectionPad1d", (1, 3), inputs=SEQUENCE),
    S("ReflectionPad2d", (1, 2, 3, 0), inputs=IMAGE),
    S("ReplicationPad1d", 4, inputs=SEQUENCE),
    S("ReplicationPad2d", (1, 2, 3, 0), inputs=IMAGE),
    S("CircularPad1d", (1, 3), inputs=SEQUENCE),
    S("CircularPad2d", (1, 2, 3, 0), inputs=IMAGE),
]

RECURRENT = [
    *[
        S(name, 3, 4, inputs=[(5, 2, 3), *states])
        for name, states in (
            ("RNN", []),
            ("GRU", []),
            ("LSTM", []),
            ("RNN", [(1, 2, 4)]),
            ("GRU", [(1, 2, 4)]),
        )
    ],
    S("RNN", 3, 4, 2, "relu", inputs=(5, 2, 3)),
    *[
        S(name, 3, 4, num_layers=2, bidirectional=True, batch_first=True, bias=bias, inputs=(2, 5, 3))
        for name in ("RNN", "GRU", "LSTM")
        for bias in (True, False)
    ],
    *[S(name, 3, 4, num_layers=3, bidirectional=True, inputs=[(5, 3), (6, 4)]) for name in ("RNN", "GRU")],
    *[
        S(name, 3, 4, num_layers=2, dropout=0.4, inputs=(5, 2, 3), random=True)
        for name in ("RNN", "GRU", "LSTM")
    ],
    S("LSTM", 3, 4, inputs=(1, 3)),
    S("LSTM", 3, 4, 2, proj_size=2, bidirectional=True, inputs=(5, 2, 3)),
    S("RNNCell", 3, 4, inputs=(2, 3)),
    S("RNNCell", 3, 4, bias=False, nonlinearity="relu", inputs=[(2, 3), (2, 4)]),
    S("LSTMCell", 3, 4, inputs=(2, 3)),
    S("LSTMCell", 3, 4, False, inputs=(3,)),
    S("GRUCell", 3, 4, inputs=[(2, 3), (2, 4)]),
    S("GRUCell", 3, 4, bias=False, inputs=(3,)),
]

_CAUSAL = np.triu(np.ones((5, 5), bool), 1)
_PADDING = np.array([[False, False, False, True, True], [False] * 5])
_ADDED = np.linspace(-1.0, 1.0, 25).reshape(5, 5)


def attention(*args: Any, inputs: Any = ((5, 2, 8),) * 3, call: Any = None, **kwargs: Any) -> Sample:
    """MultiheadAttention of embed_dim 8 with two heads, or other arguments."""
    return S("MultiheadAttention", *(args or (8, 2)), inputs=list(inputs), call=call, **kwargs)


ATTENTION = [
    attention(),
    attention(bias=False, call={"average_attn_weights": False}),
    attention(batch_first=True, inputs=((2, 4, 8), (2, 5, 8), (2, 5, 8)), call={"need_weights": False}),
    attention(kdim=3, vdim=6, inputs=((4, 2, 8), (5, 2, 3), (5, 2, 6))),
    attention(add_bias_kv=True, add_zero_attn=True, call={"attn_mask": _CAUSAL}),
    attention(call={"attn_mask": _CAUSAL, "key_padding_mask": _PADDING}),
    attention(call={"attn_mask": _CAUSAL, "is_causal": True, "need_weights": False}),
    attention(call={"attn_mask": _ADDED}),
    attention(call={"attn_mask": np.stack([_CAUSAL] * 3 + [~_CAUSAL.T & ~np.eye(5, dtype=bool)])}),
    attention(inputs=((5, 8),) * 3, call={"key_padding_mask": _PADDING[0]}),
    S("MultiheadAttention", 8, 4, dropout=0.3, inputs=[(5, 2, 8)] * 3, random=True),
    S("TransformerEncoderLayer", 8, 2, 16, 0.0, inputs=(5, 2, 8)),
    S("TransformerEncoderLayer", 8, 2, 16, 0.0, "gelu", 1e-3, True, True, inputs=(2, 5, 8)),
    S("TransformerEncoderLayer", 8, 2, 16, 0.0, bias=False, inputs=(5, 2, 8), call={"src_mask": _CAUSAL}),
    S(
        "TransformerEncoderLayer",
        8,
        2,
        16,
        0.0,
        norm_first=True,
        inputs=(5, 2, 8),
        call={"src_mask": _CAUSAL, "src_key_padding_mask": _PADDING, "is_causal": False},
    ),
    S("TransformerEncoderLayer", 8, 2, 16, 0.3, batch_first=True, inputs=(2, 5, 8), random=True),
    S("TransformerDecoderLayer", 8, 2, 16, 0.0, bias=False, inputs=[(5, 2, 8), (4, 2, 8)]),
    S(
        "TransformerDecoderLayer",
        8,
        2,
        16,
        0.0,
        "gelu",
        batch_first=True,
        norm_first=True,
        inputs=[(2, 5, 8), (2, 5, 8)],
        call={
            "tgt_mask": _CAUSAL,
            "memory_mask": _CAUSAL.T & ~np.eye(5, dtype=bool),
            "tgt_key_padding_mask": _PADDING,
            "tgt_is_causal": True,
        },
    ),
    S("TransformerDecoderLayer", 8, 2, 16, 0.3, inputs=[(5, 2, 8), (4, 2, 8)], random=True),
    S(
        "Transformer",
        8,
        2,
        2,
        2,
        16,
        0.0,
        inputs=[(5, 2, 8), (5, 2, 8)],
        call={"tgt_mask": _CAUSAL, "src_key_padding_mask": _PADDING, "memory_key_padding_mask": _PADDING},
    ),
    S("Transformer", 8, 2, 1, 1, 16, 0.0, batch_first=True, norm_first=True, inputs=[(4, 8), (5, 8)]),
]

LOSSES = [
    *[
        S(name, reduction=how, inputs=[(4, 3), (4, 3)])
        for name in ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss")
        for how in ("mean", "sum", "none")
    ],
    S("MSELoss", False, inputs=[(4, 3), (4, 3)]),
    S("MSELoss", reduce=False, inputs=[(4, 3), (4, 3)]),
    S("SmoothL1Loss", beta=0.3, inputs=[(4, 3), (4, 3)]),
    S("SmoothL1Loss", beta=0.0, inputs=[(4, 3), (4, 3)]),
    S("HuberLoss", delta=0.3, inputs=[(4, 3), (4, 3)]),
    *[
        S("CrossEntropyLoss", reduction=how, inputs=[(4, 3), classes(3, 4)])
        for how in ("mean", "sum", "none")
    ],
    *[
        S("CrossEntropyLoss", reduction=how, inputs=[(4, 3), simplex(4, 3)])
        for how in ("mean", "sum", "none")
    ],
    S("CrossEntropyLoss", inputs=[(3,), classes(3)]),
    S("CrossEntropyLoss", inputs=[(4, 3, 2, 5), classes(3, 4, 2, 5)]),
    *[
        S(
            "CrossEntropyLoss",
            weight=np.array([0.5, 2.0, 1.5]),
            label_smoothing=e,
            reduction=how,
            inputs=[(6, 3), target],
            **more,
        )
        for e in (0.0, 0.1)
        for how in ("mean", "sum", "none")
        for target, more in ((classes(3, 6), {"ignore_index": 1}), (simplex(6, 3), {}))
    ],
    S("CrossEntropyLoss", label_smoothing=0.2, inputs=[(4, 3, 5), simplex(4, 3, 5)]),
    *[
        S(
            "NLLLoss",
            weight=np.array([0.5, 2.0, 1.5]),
            ignore_index=0,
            reduction=how,
            inputs=[log_simplex(6, 3), classes(3, 6)],
        )
        for how in ("mean", "sum", "none")
    ],
    S("NLLLoss", inputs=[log_simplex(2, 3, 4), classes(3, 2, 4)]),
    *[
        S("BCELoss", reduction=how, inputs=[positive(4, 3), positive(4, 3)])
        for how in ("mean", "sum", "none")
    ],
    S("BCELoss", weight=np.array([0.5, 2.0, 1.5]), inputs=[positive(4, 3), positive(4, 3)]),
    *[
        S("BCEWithLogitsLoss", reduction=how, inputs=[(4, 3), positive(4, 3)])
        for how in ("mean", "sum", "none")
    ],
    S(
        "BCEWithLogitsLoss",
        weight=np.array([[0.5], [2.0], [1.5], [1.0]]),
        pos_weight=np.array([0.5, 2.0, 1.5]),
        inputs=[(4, 3), positive(4, 3)],
    ),
    *[
        S(
            "KLDivLoss",
            reduction=how,
            log_target=log,
            inputs=[log_simplex(4, 3), log_simplex(4, 3) if log else simplex(4, 3)],
        )
        for how in ("mean", "sum", "none", "batchmean")
        for log in (False, True)
    ],
    *[
        S("CosineEmbeddingLoss", margin=m, reduction=how, inputs=[(6, 4), (6, 4), signs(6)])
        for m in (0.0, 0.3)
        for how in ("mean", "sum", "none")
    ],
    S("CosineEmbeddingLoss", inputs=[(4,), (4,), np.array(1.0)]),
    *[
        S("HingeEmbeddingLoss", margin=2.0, reduction=how, inputs=[(4, 3), signs(4, 3)])
        for how in ("mean", "sum", "none")
    ],
    S("MarginRankingLoss", margin=0.3, inputs=[(6,), (6,), signs(6)]),
    S("MarginRankingLoss", reduction="sum", inputs=[(6,), (6,), signs(6)]),
    S("SoftMarginLoss", inputs=[(4, 3), signs(4, 3)]),
    S("MultiLabelSoftMarginLoss", weight=np.array([0.5, 2.0, 1.5]), inputs=[(4, 3), positive(4, 3)]),
    S("MultiLabelSoftMarginLoss", reduction="none", inputs=[(4, 3), positive(4, 3)]),
    S("MultiMarginLoss", inputs=[(4, 3), classes(3, 4)]),
    S("MultiMarginLoss", 2, 0.5, np.array([0.5, 2.0, 1.5]), reduction="none", inputs=[(4, 3), classes(3, 4)]),
    S("MultiMarginLoss", inputs=[(3,), classes(3)]),
    *[S("TripletMarginLoss", reduction=how, inputs=[(4, 3)] * 3) for how in ("mean", "sum", "none")],
    S("TripletMarginLoss", 0.5, 1.0, 1e-3, True, inputs=[(4, 3)] * 3),
    S("TripletMarginLoss", p=3.0, swap=True, inputs=[(4, 3)] * 3),
    S("TripletMarginWithDistanceLoss", margin=0.7, swap=True, inputs=[(4, 3)] * 3),
    S("PoissonNLLLoss", inputs=[(4, 3), lambda rng: 1.0 + rng.poisson(3.0, size=(4, 3))]),
    S(
        "PoissonNLLLoss",
        full=True,
        reduction="sum",
        inputs=[(4, 3), lambda rng: 1.0 + rng.poisson(3.0, size=(4, 3))],
    ),
    S("PoissonNLLLoss", log_input=False, eps=0.1, inputs=[positive(4, 3), positive(4, 3)]),
    S("GaussianNLLLoss", inputs=[(4, 3), (4, 3), positive(4, 3)]),
    S("GaussianNLLLoss", full=True, eps=0.5, reduction="none", inputs=[(4, 3), (4, 3), positive(4, 1)]),
    *[
        S(
            "CTCLoss",
            blank=blank,
            reduction=how,
            inputs=[
                (9, 4, 5),
                lambda rng, blank=blank: (rng.integers(1, 5, (4, 3)) + blank) % 5,
                np.array([9, 8, 7, 6]),
                np.array([3, 2, 0, 1]),
            ],
        )
        for blank, how in ((0, "mean"), (2, "sum"), (0, "none"))
    ],
    S(
        "CTCLoss",
        zero_infinity=True,
        inputs=[(3, 2, 5), np.array([[1, 1, 2], [3, 4, 1]]), np.array([3, 3]), np.array([3, 2])],
    ),
]

MODULES = [
    *ACTIVATIONS,
    *LAYERS,
    *CONVOLUTIONS,
    *POOLING,
    *NORMS,
    *RESAMPLING,
    *RECURRENT,
    *ATTENTION,
]
