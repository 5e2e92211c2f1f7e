"""The classes of a classifier, and their numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from paramserver.estimators.classes import classes_of, meet_classes, numbers_of, relabel


def test_classes_are_sorted_and_their_numbers_are_their_places() -> None:
    y = np.array(["b", "c", "a", "b"])
    classes = classes_of(y)
    assert classes.tolist() == ["a", "b", "c"]
    assert numbers_of(y, classes).tolist() == [1, 2, 0, 1]


def test_one_class_is_none_to_tell_apart_and_numbers_are_no_classes() -> None:
    with pytest.raises(ValueError, match=r"greater than one; got 1 class$"):
        classes_of(np.array([3, 3]))
    with pytest.raises(ValueError, match="Unknown label type"):
        classes_of(np.array([0.5, 1.25]))


def test_the_first_part_brings_the_classes_and_no_later_one_brings_others() -> None:
    estimator = SimpleNamespace()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        meet_classes(estimator, np.array([1, 2]), None)
    meet_classes(estimator, np.array([1, 2]), [2, 1, 3])
    assert estimator.classes_.tolist() == [1, 2, 3]
    meet_classes(estimator, np.array([3]), None)
    with pytest.raises(ValueError, match=r"y has labels that classes has not: \[4\]"):
        meet_classes(estimator, np.array([1, 4]), None)
    with pytest.raises(ValueError, match="is not the same as on last call"):
        meet_classes(estimator, np.array([1]), [1, 2])


def test_a_model_of_numbers_answers_with_labels() -> None:
    model = SimpleNamespace(_label_binarizer=None)
    relabel(model, np.array(["a", "b"]))
    assert model.classes_.tolist() == ["a", "b"]
    assert model._label_binarizer.classes_.tolist() == ["a", "b"]
