"""A Keras-style front: models that are described, compiled and fitted.

    >>> import numpy as np
    >>> from minigrad import keras
    >>> from minigrad.keras import layers
    >>> model = keras.Sequential([
    ...     layers.Dense(64, activation="relu", input_shape=(100,)),
    ...     layers.Dense(10, activation="softmax"),
    ... ])
    >>> model.compile(
    ...     optimizer=keras.optimizers.Adam(learning_rate=0.001),
    ...     loss=keras.losses.CategoricalCrossentropy(),
    ...     metrics=["accuracy"],
    ... )
    >>> data, labels = np.random.random((64, 100)), np.random.random((64, 10))
    >>> history = model.fit(data, labels, epochs=2, batch_size=32, verbose=0)
    >>> history.epoch
    [0, 1]

Names, defaults and formulas are Keras's (the differences are told where they are); underneath are
`minigrad.nn` and `minigrad.optim`.  What Keras has and this does not is an error, never ignored.
"""

from . import (
    activations,
    callbacks,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    models,
    ops,
    optimizers,
    random,
    regularizers,
    utils,
)
from .base import Layer
from .distillation import Distiller
from .initializers import Initializer
from .layers import Input
from .losses import Loss
from .metrics import Metric
from .models import Model, Sequential
from .optimizers import Optimizer
from .regularizers import Regularizer
from .symbolic import KerasTensor

__all__ = [
    "Distiller",
    "Initializer",
    "Input",
    "KerasTensor",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Optimizer",
    "Regularizer",
    "Sequential",
    "activations",
    "callbacks",
    "constraints",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "random",
    "regularizers",
    "utils",
]
