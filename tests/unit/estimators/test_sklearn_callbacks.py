"""scikit-learn's callbacks hear of each round, can score it, and can end the training.

Its own ones keep threads and sockets for good, so they are met in processes of their own. All but
the last test need scikit-learn 1.9.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV

import paramserver as ps
from paramserver.estimators import sklearn_callbacks
from paramserver.estimators.watching import Watching

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
FEW: dict[str, Any] = {"max_iter": 3, "tol": None, "n_partitions": 2, "random_state": 0}
MODELS = [
    ps.DistributedSGDClassifier(**FEW),
    ps.DistributedSGDClassifier(mode="async", **FEW),
    ps.DistributedMLPClassifier((4,), **FEW),
    ps.DistributedMLPClassifier((4,), mode="async", **FEW),
    ps.AveragedEstimator(SGDClassifier(), **FEW),
    ps.DistributedSGDRegressor(**FEW),
    ps.DistributedMLPRegressor(hidden_layer_sizes=(4,), **FEW),
]


class Recorder:
    """Notes what it is told, and asks to end after so many rounds."""

    max_propagation_depth = None

    def __init__(self, end_after: int | None = None, fail_at: str = "") -> None:
        self.told: list[tuple[str, str]] = []
        self.predictions: list[Any] = []
        self._end_after = end_after
        self._fail_at = fail_at

    def setup(self, estimator: Any, context: Any) -> None:
        self.told.append(("setup", context.task_name))

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        self.told.append(("begin", context.task_name))

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, X: Any = None, fitted_estimator: Any = None
    ) -> bool:
        self.told.append(("end", context.task_name))
        self.predictions.append(fitted_estimator.predict(X))
        if context.task_name == self._fail_at:
            raise ZeroDivisionError
        return context.parent is not None and context.task_id + 1 == self._end_after

    def teardown(self, estimator: Any, context: Any) -> None:
        self.told.append(("teardown", context.task_name))


class Names(Recorder):
    """Looks at no weights: it can be set on anything."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:  # type: ignore[override]
        self.told.append(("end", context.task_name))


def rows(n: int = 200) -> Any:
    X = np.random.default_rng(0).standard_normal((n, 3))
    return X, (X @ [1.0, -2.0, 0.5] > 0).astype(int)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_each_round_is_told_with_an_estimator_that_is_as_far(model: Any) -> None:
    X, y = rows()
    recorder = Recorder()
    fitted = clone(model).set_callbacks(recorder).fit(X, y)
    rounds = [(what, f"round {n}") for n in range(3) for what in ("begin", "end")]
    assert recorder.told == [
        ("setup", "fit"), ("begin", "fit"), *rounds, ("end", "fit"), ("teardown", "fit"),
    ]  # fmt: skip
    for n, found in enumerate(recorder.predictions):
        shorter = clone(model).set_params(max_iter=min(n + 1, 3)).fit(X, y)
        np.testing.assert_array_equal(found, shorter.predict(X))
    assert [name for name in vars(fitted) if "callback" in name] == ["_skl_callbacks"]


@pytest.mark.parametrize("mode", ["avg", "async"])
def test_a_callback_ends_the_training_and_nobody_is_warned(mode: str) -> None:
    model = ps.DistributedSGDClassifier(mode=mode, tol=1e-9, random_state=0, max_iter=50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_callbacks(Recorder(end_after=2)).fit(*rows())
    assert (model.n_iter_, len(model.loss_curve_)) == (2, 2)
    shorter = clone(model).set_callbacks().set_params(max_iter=2, tol=None).fit(*rows())
    np.testing.assert_array_equal(model.coef_, shorter.coef_)


def test_a_callback_ends_a_fit_also_where_a_smaller_learning_rate_would_be_next() -> None:
    model = ps.DistributedSGDClassifier(
        learning_rate="adaptive", eta0=0.1, tol=1e3, n_iter_no_change=2, random_state=0
    )
    assert clone(model).fit(*rows()).n_iter_ > 3  # by round 3 the first rate has nothing to gain
    recorder = Recorder(end_after=3)
    assert model.set_callbacks(recorder).fit(*rows()).n_iter_ == 3
    assert recorder.told[-3:] == [("end", "round 2"), ("end", "fit"), ("teardown", "fit")]


def test_a_callback_that_fails_ends_the_fit_and_is_torn_down() -> None:
    recorder = Recorder(fail_at="round 1")
    model = ps.DistributedSGDClassifier(**FEW).set_callbacks(recorder)
    with pytest.raises(ZeroDivisionError):
        model.fit(*rows())
    assert recorder.told[-2:] == [("end", "round 1"), ("teardown", "fit")]
    assert not hasattr(model, "coef_")


def test_a_callback_of_a_search_hears_of_the_rounds_below_it() -> None:
    names = Names()
    search = GridSearchCV(ps.DistributedSGDClassifier(**FEW), {"alpha": [1e-4, 1.0]}, cv=2)
    search.set_callbacks(names).fit(*rows())
    assert names.told.count(("begin", "round 2")) == 2 * 2 + 1
    assert names.told.count(("setup", "fit")) == 1


def test_rounds_on_a_cluster_are_told_as_those_in_this_process() -> None:
    X, y = rows(1100)
    here, there = Recorder(), Recorder()
    model = ps.DistributedSGDClassifier(**FEW)
    with ps.LocalCluster(2) as cluster:
        clone(model).set_params(cluster=cluster).set_callbacks(there).fit(X, y)
    clone(model).set_callbacks(here).fit(X[:300], y[:300])  # too few to be worth a process
    assert there.told == here.told
    assert [len(found) for found in there.predictions] == [1100] * 4


def test_what_a_training_waits_for_is_printed_also_while_callbacks_listen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watching = Watching(None, 1, by_score=False, verbose=True)
    rounds = sklearn_callbacks.Rounds(clone(MODELS[0]), [], [], None)
    sklearn_callbacks.Telling(rounds, watching, lambda _: {}).hear("kernels are being compiled")
    assert capsys.readouterr().out == "kernels are being compiled\n"


OWN_CALLBACKS = """
from sklearn.callback import ProgressBar, ScoringMonitor
import numpy as np
import paramserver as ps

X = np.random.default_rng(0).standard_normal((200, 3))
y = (X @ [1.0, -2.0, 0.5] > 0).astype(int)
how = dict(tol=None, n_partitions=2, random_state=0)
monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
model = ps.DistributedSGDClassifier("log_loss", max_iter=3, **how)
model.set_callbacks(monitor, ProgressBar()).fit(X, y, sample_weight=np.ones(200))
log = monitor.get_logs().data
assert [row["task_name"] for row in log] == ["fit", "round 0", "round 1", "round 2"], log
for n, row in enumerate(log[1:]):
    shorter = ps.DistributedSGDClassifier("log_loss", max_iter=n + 1, **how).fit(X, y)
    assert row["accuracy"] == shorter.score(X, y), (n, row)
assert log[0]["accuracy"] == log[3]["accuracy"] == model.score(X, y)
"""


def test_the_monitor_and_the_progress_bar_of_scikit_learn_work(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OWN_CALLBACKS],
        cwd=repository,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "DistributedSGDClassifier - fit" in done.stdout
    assert "100%" in done.stdout


def test_an_older_scikit_learn_has_none_and_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    monkeypatch.delattr(sklearn, "callback", raising=False)
    path = sklearn_callbacks.__file__
    spec = importlib.util.spec_from_file_location("older_callbacks", path)
    assert spec is not None
    assert spec.loader is not None
    older = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(older)

    class Estimator(older.CallbackSupport):  # type: ignore[misc, name-defined]
        max_iter = 3

        @older.with_callbacks
        def fit(self) -> str:
            rounds = older.Rounds(self, [], [], None)
            rounds.begin_round()
            assert not rounds.end_round(dict)
            rounds.end()
            return "fitted"

    assert not hasattr(Estimator(), "set_callbacks")
    assert Estimator().fit() == "fitted"
    assert older.N_WRAPPERS == 0
