"""Models that are written to the folder of a run, and read back."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

import paramserver as ps
from paramserver.data.dataset import Dataset
from paramserver.data.scaling import standardise
from paramserver.errors import DataError, ShapeMismatch
from paramserver.models.named import make_model
from paramserver.observe import model_files
from paramserver.observe.model_files import write_model, write_stock_estimator
from paramserver.observe.run_folder import RunFolder


def raw_rows(n: int = 40) -> Any:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((n, 4)) * [1, 10, 0, 3] + [5, -2, 7, 0]  # one column is constant
    return X.astype("float64")


def trained(name: str, kinds: tuple[Any, ...] | None, tmp_path: Path) -> tuple[Any, Any, Dataset]:
    """Write a model with weights by chance to a folder; return learner, weights and data set."""
    X, rng = raw_rows(), np.random.default_rng(3)
    n_classes = 0 if kinds is None else len(kinds)
    scaled, y = X.copy(), rng.standard_normal(len(X)) * 7 + 100
    scaling, y_scaling = standardise(scaled, scaled[:0].copy()), None
    if n_classes:
        y = rng.integers(0, n_classes, len(X))
    else:
        y_scaling = standardise(y[:, None], y[:0, None].copy())
    data = Dataset("mine", scaled, y, scaled, y, n_classes, (), scaling, y_scaling, kinds)
    learner, _ = make_model(name, 4, n_classes, 0.1, "float64", hidden=(5,))
    w = rng.standard_normal(learner.size)
    with RunFolder.make(tmp_path / "run") as folder:
        write_model(folder, learner, w, data, name)
    return learner, w, data


MODELS = [
    ("softmax", ("a", "b", "c")),
    ("softmax", (-1, 1)),
    ("logistic", ("no", "yes")),
    ("hinge", ("a", "b", "c")),
    ("mlp", ("no", "yes")),
    ("mlp", (3, 5, 9)),
    ("mlp", None),
    ("ridge", None),
]


@pytest.mark.parametrize(("name", "kinds"), MODELS)
def test_a_model_that_is_read_back_predicts_labels_from_raw_rows(
    name: str, kinds: tuple[Any, ...] | None, tmp_path: Path
) -> None:
    learner, w, data = trained(name, kinds, tmp_path)
    model = ps.load_model(tmp_path / "run")
    assert model.learner == learner
    assert model.weights.tobytes() == w.tobytes()
    found = model.predict(raw_rows())
    z = learner.outputs(w, data.X_train)
    if kinds is None:
        assert data.y_scaling is not None
        expected = z[:, 0] / data.y_scaling.factor[0] + data.y_scaling.mean[0]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    else:
        numbers = (z[:, 0] > 0).astype(int) if z.shape[1] == 1 else z.argmax(axis=1)
        assert found.tolist() == [kinds[k] for k in numbers]
        assert len(set(found.tolist())) > 1


@pytest.mark.parametrize(("name", "kinds"), MODELS)
def test_the_stock_estimator_predicts_the_same_from_the_same_rows(
    name: str, kinds: tuple[Any, ...] | None, tmp_path: Path
) -> None:
    trained(name, kinds, tmp_path)
    model = ps.load_model(tmp_path / "run")
    stock = model.to_sklearn()
    assert type(stock).__module__.startswith("sklearn.")
    ours, theirs = model.predict(raw_rows()), stock.predict(raw_rows())
    if kinds is None:
        np.testing.assert_allclose(theirs.reshape(-1), ours, rtol=1e-9)
    else:
        assert theirs.tolist() == ours.tolist()


def test_sparse_rows_are_taken(tmp_path: Path) -> None:
    trained("hinge", ("a", "b"), tmp_path)
    model = ps.load_model(tmp_path / "run")
    X = raw_rows()
    assert model.predict(csr_array(X)).tolist() == model.predict(X).tolist()


def test_rows_of_another_width_are_refused_and_the_callers_are_untouched(tmp_path: Path) -> None:
    trained("ridge", None, tmp_path)
    model = ps.load_model(tmp_path / "run")
    with pytest.raises(ShapeMismatch, match=r"shape \(2, 3\); the model has 4 features"):
        model.predict(np.zeros((2, 3)))
    X = raw_rows()
    model.predict(X)
    assert X.tobytes() == raw_rows().tobytes()


def test_what_is_no_model_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no model in"):
        ps.load_model(tmp_path)
    trained("ridge", None, tmp_path)
    place = tmp_path / "run"
    meaning = json.loads((place / "model.json").read_text())
    for change, words in (
        ({"format": 9}, "its format is 9"),
        ({"learner": "os.system"}, "cannot be read"),
        ({"order": ["coef"]}, "there are 4 weights, and the model has 5"),
        ({"weights_sha256": "0"}, "are not of the same model"),
    ):
        (place / "model.json").write_text(json.dumps(meaning | change))
        with pytest.raises(DataError, match=words):
            ps.load_model(place)
    (place / "model.json").write_text(json.dumps(meaning))
    (place / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match="cannot be read"):
        ps.load_model(place)


def test_with_skops_the_stock_estimator_is_written_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained("softmax", ("a", "b", "c"), tmp_path)
    written = []

    def dumps(model: Any) -> bytes:
        written.append(model)
        return b"skops"

    with RunFolder(tmp_path / "run") as folder:
        monkeypatch.setattr(model_files, "find_spec", lambda _: None)
        assert not write_stock_estimator(folder)
        monkeypatch.setattr(model_files, "find_spec", lambda _: ModuleSpec("skops", None))
        monkeypatch.setitem(sys.modules, "skops", SimpleNamespace())
        monkeypatch.setitem(sys.modules, "skops.io", SimpleNamespace(dumps=dumps))
        assert write_stock_estimator(folder)
    assert (tmp_path / "run/model.skops").read_bytes() == b"skops"
    assert set(written[0].predict(raw_rows())) <= {"a", "b", "c"}
