"""Quantization: models whose weights and activations are eight bits, and which say what that does to them.

    >>> import minigrad as mg
    >>> from minigrad import nn, quantization
    >>> _ = mg.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    >>> x = mg.randn(64, 16)
    >>> small = quantization.quantize_static(model, [x], measure=False)
    >>> quantization.size(model), small.size
    (2704, 938)
    >>> bool(((small(x) - model(x)).abs().amax() < 0.02).item())
    True

A real number is stored as r = s (q - z): `scheme` says how s and z are chosen, `observers` for which range,
`minigrad.ops.quantized` how integers are multiplied, and `minigrad.quantizing` how a model's graph is read as
layers, with batch norms folded.  On top of these:

    quantize_dynamic(model)             int8 linear layers, no data needed
    quantize_static(model, batches)     int8 throughout: `prepare`, then batches, then `convert`
    quantize_weights_only(model)        int8 weights, arithmetic in floats
    prepare_qat(model), convert         trained with rounding in view, where that is needed
    sensitivity(model, batch)           what each layer costs
    magnitude, channels                 pruning

**A quantized model must earn its place**: layers that are slower in eight bits on this machine, or hurt, stay
in floats, and `model.report()` says which, with times and errors; a whole model is never slower without a
warning.

References: Jacob et al. 2018 (arXiv 1712.05877); Krishnamoorthi 2018 (arXiv 1806.08342); Nagel et al. 2021
(arXiv 2106.08295), a white paper.  Left out: fewer than eight bits; recurrent layers (their gates stay in
floats, and are listed).
"""

from .model import (
    PreparedModel,
    QuantizedModel,
    convert,
    load,
    prepare,
    quantize_dynamic,
    quantize_static,
    quantize_weights_only,
    sensitivity,
    size,
)
from .observers import MSE, OBSERVERS, Entropy, MinMax, MovingAverage, Observer, Percentile
from .pruning import channels, magnitude, sparsity
from .report import Report, Row
from .scheme import quantize_weights, scale_and_zero_point, sqnr
from .training import ActivationQuantizer, QATModel, WeightQuantizer, fake_quantize, prepare_qat

__all__ = [
    "MSE",
    "OBSERVERS",
    "ActivationQuantizer",
    "Entropy",
    "MinMax",
    "MovingAverage",
    "Observer",
    "Percentile",
    "PreparedModel",
    "QATModel",
    "QuantizedModel",
    "Report",
    "Row",
    "WeightQuantizer",
    "channels",
    "convert",
    "fake_quantize",
    "load",
    "magnitude",
    "prepare",
    "prepare_qat",
    "quantize_dynamic",
    "quantize_static",
    "quantize_weights",
    "quantize_weights_only",
    "scale_and_zero_point",
    "sensitivity",
    "size",
    "sparsity",
    "sqnr",
]
