"""Recipes: a training run described by a TOML file, for `minigrad train` and `minigrad eval`.

    [data]                                  # what to learn from
    source = "digits"                       # digits, csv, npz, images, mnist, cifar10

    [model]
    layers = [
        { type = "Conv2D", filters = 16, kernel_size = 3, activation = "relu" },
        { type = "Flatten" },
        { type = "Dense", units = 10, activation = "softmax" },
    ]

    [train]
    epochs = 10
    batch_size = 32

    >>> recipe = check(tomllib.loads('[train]\\nepochs = 3\\nbach_size = 16\\n'))
    Traceback (most recent call last):
        ...
    minigrad.recipe.RecipeError: recipe: there is no key 'bach_size' in [train] ... did you mean 'batch_size'?

Every key has a default except the model's layers; a key that is not known is an error that names the
nearest one.  What is prepared (a scaler fitted on the training part) is saved with the model, so that
`eval` treats data alike.  Layers are those of `minigrad.keras.layers`, with their arguments.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from . import checkpoint, data, keras
from .data import augmentation, preprocessing
from .errors import ArgumentError, Error
from .random import Generator

Array = np.ndarray[Any, Any]


class RecipeError(Error, ValueError):
    """A recipe that cannot be followed."""


#: [section] -> key -> default; None is no default.
KEYS: dict[str, dict[str, Any]] = {
    "data": {
        "source": "digits",
        "path": "",
        "test_path": "",
        "target": "label",
        "columns": [],
        "image_size": [32, 32],
        "test_share": 0.2,
        "validation_share": 0.1,
        "scale": "standard",
    },
    "augment": {
        "degrees": 0.0,
        "translate": 0.0,
        "scale": [1.0, 1.0],
        "shear": 0.0,
        "flip": False,
        "noise": 0.0,
        "cutout": 0,
    },
    "model": {"layers": None, "name": "model"},
    "train": {
        "epochs": 10,
        "batch_size": 32,
        "seed": 0,
        "optimizer": "adam",
        "learning_rate": 0.001,
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
        "patience": 0,
        "class_weight": {},
        "workers": 1,
    },
    "output": {"directory": "run"},
}
_SOURCES = ("digits", "csv", "npz", "images", "mnist", "cifar10")
_SCALERS: dict[str, Any] = {
    "standard": preprocessing.StandardScaler,
    "minmax": preprocessing.MinMaxScaler,
    "robust": preprocessing.RobustScaler,
    "none": None,
}


def _unknown(what: str, name: str, known: Any, where: str) -> RecipeError:
    near = get_close_matches(name, known, 1, 0.5)
    fix = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return RecipeError("recipe", f"there is no {what} {name!r}{where}", fix=fix)


def check(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A recipe with all defaults filled in.  Raises RecipeError for unknown keys and wrong types."""
    for section, keys in given.items():
        if section not in KEYS:
            raise _unknown("section", section, KEYS, "")
        if not isinstance(keys, Mapping):
            raise RecipeError("recipe", f"{section!r} is no section", fix=f"write [{section}] above its keys")
        for key, value in keys.items():
            if key not in KEYS[section]:
                raise _unknown("key", key, KEYS[section], f" in [{section}]")
            _check_type(section, key, value, KEYS[section][key])
    recipe = {section: {**keys, **given.get(section, {})} for section, keys in KEYS.items()}
    for section, key, known in (("data", "source", _SOURCES), ("data", "scale", _SCALERS)):
        if recipe[section][key] not in known:
            raise _unknown(key, recipe[section][key], known, f" in [{section}]")
    if not recipe["model"]["layers"]:
        raise RecipeError("recipe", "[model] has no layers", fix='layers = [{ type = "Dense", units = 10 }]')
    if recipe["train"]["workers"] != 1 and _augmented(recipe) is not None:
        raise RecipeError(
            "recipe",
            "[augment] with several workers, of which only the first would see the varied images",
            fix="use workers = 1, or no augmentation",
        )
    return recipe


def _check_type(section: str, key: str, value: Any, default: Any) -> None:
    kinds: Any = {
        bool: bool,
        int: int,
        float: (int, float),
        str: str,
        list: list,
        dict: dict,
    }.get(type(default), list)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
        name = "list" if default is None else type(default).__name__
        raise RecipeError(
            "recipe", f"{key} in [{section}] is {value!r}", fix=f"it must be of type {name}, as {default!r}"
        )


def read(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """The recipe of a file.  Raises RecipeError for one that is missing, no TOML, or not understood."""
    try:
        with open(path, "rb") as file:
            return check(tomllib.load(file))
    except OSError as error:
        raise RecipeError(
            "recipe", f"{os.fspath(path)} cannot be read: {error.strerror}", fix="check the path"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError("recipe", f"{os.fspath(path)} is no TOML: {error}", fix="mend that line") from None


# -- data ------------------------------------------------------------------------------------------------


def load(recipe: dict[str, dict[str, Any]]) -> dict[str, tuple[Array, Array]]:
    """{"train", "validation", "test"}: examples, float32 with channels last, and labels."""
    options = recipe["data"]
    source, path = options["source"], options["path"]
    if source != "digits" and not path:
        raise RecipeError("recipe", f"[data] has no path for {source!r}", fix='path = "..."')
    test: tuple[Array, Array] | None = None
    if source == "digits":
        parts = {name: data.load_digits(name) for name in ("train", "validation", "test")}
        return {name: (x[..., None].astype(np.float32), y) for name, (x, y) in parts.items()}
    if source == "mnist":
        x, y = data.mnist(path)
        u, v = data.mnist(path, "test")
        x, test = x[..., None].astype(np.float32), (u[..., None].astype(np.float32), v)
    elif source == "cifar10":
        x, y = data.cifar10(path)
        u, v = data.cifar10(path, "test")
        x = x.transpose(0, 2, 3, 1).astype(np.float32)
        test = (u.transpose(0, 2, 3, 1).astype(np.float32), v)
    else:
        x, y = _from_files(source, path, options)
        if options["test_path"]:
            test = _from_files(source, options["test_path"], options)
    order = data.random_split(x, [1.0], Generator(recipe["train"]["seed"]))[0].indices
    held = {"validation": options["validation_share"], "test": 0.0 if test else options["test_share"]}
    counts = {name: round(share * len(x)) for name, share in held.items()}
    if sum(counts.values()) >= len(x):
        raise RecipeError("recipe", f"{counts} of {len(x)} examples", fix="use smaller shares")
    a, b = counts["validation"], counts["validation"] + counts["test"]
    return {
        "train": (x[order[b:]], y[order[b:]]),
        "validation": (x[order[:a]], y[order[:a]]),
        "test": test or (x[order[a:b]], y[order[a:b]]),
    }


def _from_files(source: str, path: str, options: dict[str, Any]) -> tuple[Array, Array]:
    if source == "csv":
        table = data.read_csv(path)
        target = options["target"]
        if target not in table:
            raise _unknown("column", target, list(table), f" in {path}")
        columns = options["columns"] or [name for name in table if name != target]
        labels = table[target]
        y = preprocessing.LabelEncoder().fit_transform(labels) if isinstance(labels, list) else labels
        return data.features(table, columns), y
    if source == "images":
        folder = data.ImageFolder(path, size=tuple(options["image_size"]))
        pairs = [folder[i] for i in range(len(folder))]
        return np.stack([image.transpose(1, 2, 0) for image, _ in pairs]), np.array([y for _, y in pairs])
    arrays = data.open_arrays(path, names=["x", "y"]).tensors
    return arrays[0].numpy().astype(np.float32), arrays[1].numpy()


# -- following a recipe --------------------------------------------------------------------------------------


def build(recipe: dict[str, dict[str, Any]], shape: tuple[int, ...]) -> keras.Sequential:
    """The compiled model."""
    made = []
    for i, entry in enumerate(recipe["model"]["layers"]):
        given = dict(entry)
        kind = given.pop("type", None)
        names = [
            n
            for n, v in vars(keras.layers).items()
            if isinstance(v, type) and issubclass(v, keras.layers.Layer)
        ]
        if kind not in names:
            raise _unknown("layer", str(kind), names, f" (layer {i + 1} of [model])")
        made.append(getattr(keras.layers, kind)(**given))
    model = keras.Sequential([keras.Input(shape), *made], name=recipe["model"]["name"])
    options = recipe["train"]
    optimizer = keras.optimizers.get(options["optimizer"])
    optimizer.learning_rate = options["learning_rate"]
    model.compile(optimizer, options["loss"], list(options["metrics"]))
    return model


def _augmented(recipe: dict[str, dict[str, Any]]) -> augmentation.Transform | None:
    o = recipe["augment"]
    steps: list[augmentation.Transform] = []
    if o["degrees"] or o["translate"] or o["shear"] or tuple(o["scale"]) != (1.0, 1.0):
        steps.append(
            augmentation.RandomAffine(
                o["degrees"], (o["translate"],) * 2, tuple(o["scale"]), o["shear"], channels_last=True
            )
        )
    if o["flip"]:
        steps.append(augmentation.RandomHorizontalFlip(channels_last=True))
    if o["noise"]:
        steps.append(augmentation.GaussianNoise(o["noise"]))
    if o["cutout"]:
        steps.append(augmentation.Cutout(o["cutout"], channels_last=True))
    return augmentation.Compose(steps) if steps else None


class _Vary(keras.callbacks.Callback):
    """Writes new variants of the examples over those of the last epoch: `fit` reads the array as it is."""

    def __init__(self, x: Array, transform: augmentation.Transform, scale: Any, seed: int) -> None:
        self.original, self.x = x, scale(x)
        self.transform, self.scale, self.seed = transform, scale, seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        """Vary"""
        self.x[...] = self.scale(self.transform(self.original, seed=self.seed, epoch=epoch))


def train(recipe: dict[str, dict[str, Any]], verbose: int | str = "auto") -> tuple[Any, dict[str, float]]:
    """Follow a recipe: train, write `model.safetensors` and `log.csv`; returns model and test figures."""
    options = recipe["train"]
    keras.utils.set_random_seed(options["seed"])
    parts = load(recipe)
    scaler = _SCALERS[recipe["data"]["scale"]]
    scaler = (
        None if scaler is None else scaler().fit(parts["train"][0].reshape(-1, parts["train"][0].shape[-1]))
    )
    scale = _scaling(scaler)
    (x, y), (vx, vy) = parts["train"], parts["validation"]
    model = build(recipe, x.shape[1:])
    folder = recipe["output"]["directory"]
    os.makedirs(folder, exist_ok=True)
    listeners: list[keras.callbacks.Callback] = [keras.callbacks.CSVLogger(os.path.join(folder, "log.csv"))]
    transform = _augmented(recipe)
    inputs = scale(x)
    if transform is not None:
        vary = _Vary(x, transform, scale, options["seed"])
        listeners.append(vary)
        inputs = vary.x
    if options["patience"]:
        watched = "val_loss" if len(vx) else "loss"
        listeners.append(
            keras.callbacks.EarlyStopping(watched, patience=options["patience"], restore_best_weights=True)
        )
    model.fit(
        inputs,
        y,
        batch_size=options["batch_size"],
        epochs=options["epochs"],
        validation_data=(scale(vx), vy) if len(vx) else None,
        class_weight={int(k): v for k, v in options["class_weight"].items()} or None,
        callbacks=listeners,
        verbose=verbose,
        workers=options["workers"],
    )
    model.save(os.path.join(folder, "model.safetensors"))
    state = None if scaler is None else scaler.state_dict()
    checkpoint.save(os.path.join(folder, "prepare.safetensors"), {"scaler": state})
    return model, evaluate(recipe, parts)


def _scaling(scaler: Any) -> Any:
    if scaler is None:
        return lambda x: x.copy()
    return lambda x: scaler.transform(x.reshape(-1, x.shape[-1])).reshape(x.shape) if len(x) else x


def evaluate(
    recipe: dict[str, dict[str, Any]], parts: dict[str, tuple[Array, Array]] | None = None
) -> dict[str, float]:
    """The figures of the saved model on the test part."""
    folder = recipe["output"]["directory"]
    model = keras.models.load_model(os.path.join(folder, "model.safetensors"))
    state = checkpoint.load(os.path.join(folder, "prepare.safetensors"))["scaler"]
    scaler = None if state is None else _SCALERS[recipe["data"]["scale"]]
    if (state is None) != (scaler is None):
        raise ArgumentError("eval", "the model was trained with another scale", fix="use its own recipe")
    if scaler is not None:
        scaler = scaler()
        scaler.load_state_dict(state)
    x, y = (parts or load(recipe))["test"]
    found: dict[str, float] = model.evaluate(_scaling(scaler)(x), y, verbose=0, return_dict=True)
    return found
