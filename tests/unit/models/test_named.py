"""Models by name."""

from __future__ import annotations

import pytest

from paramserver.errors import ConfigError
from paramserver.models.named import NAMES, make_model


@pytest.mark.parametrize(
    ("name", "n_classes", "expected", "size"),
    [
        ("auto", 3, "softmax", 15),
        ("auto", 0, "ridge", 5),
        ("softmax", 2, "softmax", 10),
        ("logistic", 2, "logistic", 5),
        ("logistic", 3, "logistic", 15),
        ("hinge", 3, "hinge", 15),
        ("mlp", 0, "mlp", 5 * 128 + 129),
        ("mlp", 3, "mlp", 5 * 128 + 129 * 3),
    ],
)
def test_a_model_fits_its_data(name: str, n_classes: int, expected: str, size: int) -> None:
    learner, found = make_model(name, 4, n_classes, l2=0.0)
    assert (found, learner.size) == (expected, size)


@pytest.mark.parametrize(("name", "n_classes"), [("ridge", 3), ("softmax", 0), ("hinge", 0)])
def test_a_model_that_does_not_fit_the_labels_is_refused(name: str, n_classes: int) -> None:
    with pytest.raises(ConfigError, match="does not fit the labels"):
        make_model(name, 4, n_classes, l2=0.0)


def test_an_unknown_model_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=", ".join(NAMES)):
        make_model("forest", 4, 2, l2=0.0)
