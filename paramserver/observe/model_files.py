"""A trained model in two files: ``model.safetensors`` holds numbers, ``model.json`` their meaning.

Rule 1: neither holds code; whoever reads them needs no paramserver: names, shapes, classes and the
        scaling of the columns are all there.
Rule 2: weights are kept to the bit.

::

    model.safetensors   the parts of the weights by name (coef, intercept, ...), and where columns
                        were scaled  x_mean, x_factor  (and y_mean, y_factor for numbers):
                        the model sees  (X - x_mean) * x_factor
    model.json          format, model, settings, shapes, classes, weights_sha256
    model.skops         where skops is installed: the stock estimator of scikit-learn
"""

from __future__ import annotations

import dataclasses
import json
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from paramserver.data.dataset import Dataset
from paramserver.training.learner import Learner
from paramserver.training.vector import FloatVector, fingerprint

if TYPE_CHECKING:
    from paramserver.observe.run_folder import RunFolder

FORMAT: Final = 1
TENSORS: Final = "model.safetensors"
MEANING: Final = "model.json"
STOCK: Final = "model.skops"


def write_model(
    folder: RunFolder, learner: Learner, w: FloatVector, dataset: Dataset, name: str
) -> None:
    """Write a model to the folder of its run."""
    from safetensors.numpy import save

    parts = _parts(learner, w)
    tensors = {key: np.ascontiguousarray(value) for key, value in parts.items()}
    for prefix, scaling in (("x", dataset.scaling), ("y", dataset.y_scaling)):
        if scaling is not None:
            tensors |= {f"{prefix}_mean": scaling.mean, f"{prefix}_factor": scaling.factor}
    meaning = {
        "format": FORMAT,
        "model": name,
        "learner": type(learner).__name__,
        "settings": _settings(learner),
        "dtype": str(learner.dtype),
        "order": list(parts),
        "shapes": {key: list(value.shape) for key, value in parts.items()},
        "n_features": dataset.n_features,
        "n_classes": dataset.n_classes,
        "classes": None if dataset.classes is None else list(dataset.classes),
        "data": dataset.name,
        "weights_sha256": fingerprint(w),
    }
    folder.write(TENSORS, save(tensors, metadata={"model": name}))
    folder.write(MEANING, f"{json.dumps(meaning, indent=2)}\n".encode())


def write_stock_estimator(folder: RunFolder) -> bool:
    """Write ``model.skops`` from the files above, where skops is installed; say whether it is.

    skops reads and writes scikit-learn's estimators without pickle.
    """
    if find_spec("skops") is None:
        return False
    from paramserver.observe.trained_model import load_model

    io = import_module("skops.io")
    folder.write(STOCK, io.dumps(load_model(folder.path).to_sklearn()))
    return True


def _parts(learner: Learner, w: FloatVector) -> dict[str, Any]:
    layout = getattr(learner, "layout", None)
    return {"w": w} if layout is None else layout.views(w)


def _settings(learner: Learner) -> dict[str, Any]:
    """Return the fields of a learner, where it is one of our dataclasses."""
    return dataclasses.asdict(learner) if dataclasses.is_dataclass(learner) else {}
