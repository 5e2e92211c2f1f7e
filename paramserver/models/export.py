"""From trained weights to the stock estimator of scikit-learn that predicts the same.

Rule 1: what comes back is plain scikit-learn: it predicts, scores, pickles, and needs nothing of
        this package.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError
from paramserver.models.affine import Affine
from paramserver.models.linear import Linear
from paramserver.models.losses import Array
from paramserver.models.mlp import MLP
from paramserver.models.model import Model
from paramserver.models.softmax import Softmax
from paramserver.training.vector import FloatVector


def to_sklearn(learner: Model, w: FloatVector, classes: npt.ArrayLike | None = None) -> Any:
    """Return a fitted estimator with these weights.

    Parameters
    ----------
    learner : Linear, Softmax or MLP
    w : ndarray of shape (d,)
        Copied.
    classes : array-like, optional
        What the class numbers stand for, in their order; by default the numbers themselves.

    Returns
    -------
    estimator
        `Ridge` for the squared error, `LogisticRegression` for softmax and for two classes by the
        log loss, `SGDRegressor` or `SGDClassifier` for other linear models, `MLPRegressor` or
        `MLPClassifier` for layers. Settings with a counterpart of the same meaning are taken over;
        they matter only to those who train on.

    Raises
    ------
    ConfigError
        If there are more or fewer classes than the model tells apart, or scikit-learn is too old
        to have its like.

    Examples
    --------
    >>> import numpy as np
    >>> from paramserver.models.export import to_sklearn
    >>> from paramserver.models.linear import Linear
    >>> w = np.array([1, -1, 0], "float32")
    >>> model = to_sklearn(Linear(2, 1, "hinge"), w, ["no", "yes"])
    >>> model.predict([[2.0, 1.0], [1.0, 2.0]])
    array(['yes', 'no'], dtype='<U3')
    """
    w = np.array(w)
    labels = _labels(learner, classes)
    match learner:
        case MLP():
            return _layers(learner, w, labels)
        case Softmax() | Linear():
            return _linear(learner, w, labels)
    raise ConfigError(
        f"{type(learner).__name__} has no counterpart in scikit-learn.",
        field="learner",
        value=type(learner).__name__,
    )


def _labels(learner: Model, classes: npt.ArrayLike | None) -> Array | None:
    if not learner.output.is_for_classes:
        return None
    n: int = learner.output.n_classes  # type: ignore[attr-defined]
    labels = np.arange(n) if classes is None else np.asarray(classes)
    if labels.shape != (n,) or (labels[1:] <= labels[:-1]).any():
        raise ConfigError(
            f"classes must be the {n} labels in ascending order, as numpy.unique gives them.",
            field="classes",
            value=classes,
        )
    return labels


def _linear(learner: Affine, w: FloatVector, labels: Array | None) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor

    parts = learner.layout.views(w)
    coef, intercept = np.ascontiguousarray(parts["coef"].T), parts["intercept"]
    loss = getattr(learner, "loss_name", "multinomial")
    l1, l2 = learner.penalty.l1, learner.penalty.l2
    share = l1 / (l1 + l2) if l1 + l2 else 0.0
    elastic = {
        "penalty": "elasticnet" if l1 else "l2",
        "alpha": l1 + l2,
        "l1_ratio": share,
    }
    model: Any
    if loss == "squared_error" and not l1:
        model = Ridge()
    elif labels is None:
        model = SGDRegressor(loss=loss, **elastic)
    elif loss == "multinomial" or (loss == "log_loss" and len(coef) == 1):
        model = LogisticRegression()
        if len(coef) == 2:  # two classes have one output there
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    else:
        model = SGDClassifier(loss=loss, **elastic)
    if labels is None:
        model.coef_, model.intercept_ = (
            coef[0],
            intercept if loss != "squared_error" else intercept[0],
        )
    else:
        model.coef_, model.intercept_, model.classes_ = coef, intercept, labels
    model.n_features_in_ = learner.n_features
    return model


def _layers(learner: MLP, w: FloatVector, labels: Array | None) -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import LabelBinarizer

    parts = learner.layout.views(w)
    n_layers = len(parts) // 2
    coefs = [parts[f"coef{i}"] for i in range(n_layers)]
    intercepts = [parts[f"intercept{i}"] for i in range(n_layers)]
    settings: dict[str, Any] = {
        "hidden_layer_sizes": learner.hidden,
        "activation": learner.activation,
    }
    model: Any
    if labels is None:
        model = stock_layers(learner.loss_name, **settings)
        model.out_activation_ = "exp" if learner.loss_name == "poisson" else "identity"
    else:
        model = MLPClassifier(**settings)
        model.classes_, model.out_activation_ = labels, "softmax"
        model._label_binarizer = LabelBinarizer().fit(labels)
        if len(labels) == 2:  # two classes have one output there
            coefs[-1] = coefs[-1][:, 1:] - coefs[-1][:, :1]
            intercepts[-1] = intercepts[-1][1:] - intercepts[-1][:1]
            model.out_activation_ = "logistic"
    model.coefs_, model.intercepts_ = coefs, intercepts
    model.n_layers_, model.n_outputs_ = n_layers + 1, coefs[-1].shape[1]
    model.n_features_in_ = learner.n_features
    return model


def stock_layers(loss: str, **settings: Any) -> Any:
    """Return an `MLPRegressor` with such a loss, not fitted.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}
    **settings
        Its other parameters.

    Raises
    ------
    ConfigError
        If this scikit-learn has no choice of losses.
    """
    from sklearn.neural_network import MLPRegressor

    if "loss" in signature(MLPRegressor).parameters:
        return MLPRegressor(loss=loss, **settings)
    if loss != "squared_error":
        raise ConfigError(
            f"loss={loss!r} of layers needs scikit-learn 1.7 or later.", field="loss", value=loss
        )
    return MLPRegressor(**settings)
