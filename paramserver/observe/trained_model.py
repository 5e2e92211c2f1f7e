"""A trained model read back from the folder of its run: it predicts from rows as they came.

Rule 1: rows are scaled here as those that were trained on; labels come out as they went in.
Rule 2: reading runs no code from the files: numbers, names and settings are all there is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.data.scaling import Scaling
from paramserver.errors import DataError, ShapeMismatch
from paramserver.models.linear import Linear
from paramserver.models.mlp import MLP
from paramserver.models.model import Model
from paramserver.models.softmax import Softmax
from paramserver.observe.model_files import FORMAT, MEANING, TENSORS
from paramserver.training.vector import FloatVector, fingerprint

LEARNERS: Final[Mapping[str, type[Model]]] = {"Linear": Linear, "MLP": MLP, "Softmax": Softmax}


@dataclass(frozen=True)
class TrainedModel:
    """A model and all that it needs to meet raw rows; see `load_model`.

    Attributes
    ----------
    learner : Model
    weights : ndarray of shape (d,)
    classes : tuple or None
        What the class numbers stand for; None for numbers to predict.
    scaling, y_scaling : Scaling or None
        Of the columns, and of the numbers to predict.
    """

    learner: Model
    weights: FloatVector
    classes: tuple[Any, ...] | None
    scaling: Scaling | None
    y_scaling: Scaling | None

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return a label (or a number) for each row.

        Parameters
        ----------
        X : array-like of shape (n, n_features), or a sparse matrix of scipy
            As in the file that was trained on, without the label; not scaled by the caller.

        Raises
        ------
        ShapeMismatch
            If the rows have another number of features.
        """
        z = self.learner.outputs(self.weights, self._rows(X))
        if self.classes is not None:
            numbers = z[:, 0] > 0 if z.shape[1] == 1 else z.argmax(axis=1)
            return np.asarray(self.classes)[numbers.astype(np.intp)]
        y: npt.NDArray[Any] = z[:, 0].astype(np.float64)
        if self.y_scaling is not None:
            y = y / self.y_scaling.factor[0] + self.y_scaling.mean[0]
        return y

    def to_sklearn(self) -> Any:
        """Return the stock estimator of scikit-learn that predicts the same from the same rows.

        It is a `Pipeline` with a `StandardScaler` where columns were scaled.
        """
        from sklearn.compose import TransformedTargetRegressor
        from sklearn.pipeline import Pipeline

        model = self.learner.to_sklearn(self.weights, self.classes)
        if self.y_scaling is not None:
            inner, model = model, TransformedTargetRegressor(model, transformer=_scaler(None))
            model.regressor_, model.transformer_ = inner, _scaler(self.y_scaling)
            model._training_dim = 1  # what its own `fit` would remember of the shape of y
        if self.scaling is None:
            return model
        return Pipeline([("scale", _scaler(self.scaling)), ("model", model)])

    def _rows(self, X: Any) -> Any:
        dtype = self.learner.dtype
        is_sparse = hasattr(X, "tocsr")
        rows: Any = X.tocsr().astype(dtype) if is_sparse else np.array(X, dtype, order="C")
        if rows.ndim != 2 or rows.shape[1] != self.learner.n_features:
            raise ShapeMismatch(
                f"X has the shape {rows.shape}; the model has {self.learner.n_features} features."
            )
        if self.scaling is not None:
            rows = rows.toarray() if is_sparse else rows
            self.scaling.apply(rows)
        return rows


def load_model(folder: str | os.PathLike[str]) -> TrainedModel:
    """Read the model that a run has left in its folder.

    Parameters
    ----------
    folder : path
        Of a run, such as ``runs/20261126-101500-avg``.

    Raises
    ------
    DataError
        If there is no model, or its files do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    place = Path(folder)
    try:
        meaning = json.loads((place / MEANING).read_text(encoding="utf-8"))
        tensors = load_file(place / TENSORS)
        model = _assemble(meaning, tensors)
    except OSError as error:
        raise DataError(
            f"There is no model in {place}: {error.strerror or error}. A run leaves {TENSORS} and "
            f"{MEANING} in its folder.",
            path=str(place),
        ) from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"The model in {place} cannot be read: {error}. It was written by another version, or "
            "is damaged.",
            path=str(place),
        ) from error
    if fingerprint(model.weights) != meaning["weights_sha256"]:
        raise DataError(
            f"{TENSORS} and {MEANING} in {place} are not of the same model.", path=str(place)
        )
    return model


def _assemble(meaning: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> TrainedModel:
    if meaning["format"] != FORMAT:
        raise ValueError(f"its format is {meaning['format']}, this version reads {FORMAT}")
    settings = dict(meaning["settings"])
    if "hidden" in settings:
        settings["hidden"] = tuple(settings["hidden"])
    learner = LEARNERS[meaning["learner"]](**settings)
    w = np.concatenate([tensors[name].reshape(-1) for name in meaning["order"]])
    if w.shape != (learner.size,):
        raise ValueError(f"there are {w.size} weights, and the model has {learner.size}")
    classes = None
    if meaning["n_classes"]:
        classes = tuple(meaning["classes"] or range(meaning["n_classes"]))
    scalings = [
        Scaling(tensors[f"{axis}_mean"], tensors[f"{axis}_factor"])
        if f"{axis}_mean" in tensors
        else None
        for axis in ("x", "y")
    ]
    return TrainedModel(learner, w, classes, *scalings)


def _scaler(scaling: Scaling | None) -> Any:
    """Return a `StandardScaler`, fitted if a scaling is given."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    if scaling is not None:
        with np.errstate(divide="ignore"):  # a column that was constant: all of it becomes 0
            scaler.scale_ = 1 / scaling.factor
        scaler.mean_, scaler.var_ = scaling.mean, scaler.scale_**2
        scaler.n_features_in_, scaler.n_samples_seen_ = len(scaling.mean), 1
    return scaler
