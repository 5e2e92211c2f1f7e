"""The classes of a classifier: which there are, and their numbers. As scikit-learn has them.

Rule 1: classes are kept in sorted order; their numbers are their places in it.
Rule 2: learners see numbers alone, users labels alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    unique_labels,
)


def classes_of(y: Any, at_least: int = 2) -> Any:
    """Return the classes that all rows have.

    Raises
    ------
    ValueError
        If these are numbers to predict, or there are too few.
    """
    check_classification_targets(y)
    classes = unique_labels(y)
    _require(len(classes), at_least)
    return classes


def meet_classes(estimator: Any, y: Any, classes: Any, at_least: int = 2) -> None:
    """Take in a part of the rows: leave `classes_` on the estimator, if it is the first one.

    Parameters
    ----------
    estimator : estimator
    y : ndarray
    classes : array-like or None
        All labels that may come; needed by the first call.

    Raises
    ------
    ValueError
        If they are missing, too few, other ones than before, or do not hold all labels of `y`.
    """
    check_classification_targets(y)
    if classes is not None:
        _require(len(unique_labels(classes)), at_least)
    _check_partial_fit_first_call(estimator, classes)
    unknown = np.setdiff1d(y, estimator.classes_)
    if unknown.size:
        raise ValueError(f"y has labels that classes has not: {unknown.tolist()}")


def _require(n_classes: int, at_least: int) -> None:
    if n_classes < at_least:
        raise ValueError(f"The number of classes has to be greater than one; got {n_classes} class")


def numbers_of(y: Any, classes: Any) -> Any:
    """Return the number of the class of each row."""
    return np.searchsorted(classes, y.astype(classes.dtype, copy=False))


def relabel(model: Any, classes: Any) -> None:
    """Let a classifier that was trained on class numbers answer with the labels themselves."""
    model.classes_ = classes
    if hasattr(model, "_label_binarizer"):
        from sklearn.preprocessing import LabelBinarizer

        model._label_binarizer = LabelBinarizer().fit(classes)
