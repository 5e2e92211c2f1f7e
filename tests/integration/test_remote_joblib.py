"""joblib's calls on workers of another machine: by name, as code if both sides say so, or not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV, cross_validate

import paramserver as ps
from paramserver.cluster import Cluster
from paramserver.errors import ConfigError, JobFailed, LocalProtocolError
from tests.conformance import joblib_jobs as jobs
from tests.integration.remote import PATIENCE_S, AgentProcess

pytestmark = pytest.mark.usefixtures("no_lending_thread")


def workers(keys: Path, *options: str, ships_code: bool) -> Iterator[Cluster]:
    """Two of them, which all parallel calls of the test run on."""
    ps.register_joblib()
    address = "tcp://127.0.0.1:0"
    with (
        Cluster(address, keys, ship_code=ships_code, grace_s=0.5, verbose=False) as cluster,
        AgentProcess(cluster.address, keys, 2, *options),
        parallel_config("paramserver", cluster=cluster),
    ):
        cluster.wait_for_workers(2, PATIENCE_S)
        yield cluster


@pytest.fixture
def by_name(keys: Path) -> Iterator[Cluster]:
    yield from workers(keys, ships_code=False)


@pytest.fixture
def by_code(keys: Path) -> Iterator[Cluster]:
    yield from workers(keys, "--accept-code", ships_code=True)


def test_functions_that_are_allowed_run_by_name(by_name: Cluster, tmp_path: Path) -> None:
    calls = [delayed(jobs.square)(n) for n in range(20)]
    calls[3] = delayed(jobs.fail_at)(bad=-1, n=9)  # another function in the same batch
    assert Parallel(batch_size=4)(calls) == [n * n for n in range(20)]
    array = np.ones(200_000)
    found = Parallel(return_as="generator")(delayed(jobs.look)(array, n) for n in range(3))
    assert list(found) == [("ndarray", True, 2e5)] * 3
    nested = Parallel(batch_size=1)(delayed(jobs.nested)(n) for n in (2, 3))
    assert [value for _, value, _ in nested] == [[0, 1], [0, 1, 4]]
    assert {(name, by_threads) for name, _, by_threads in nested} == {("ThreadingBackend", True)}
    with pytest.raises(JobFailed, match="no 5 please"):
        Parallel()(delayed(jobs.fail_at)(5, n) for n in range(20))
    mark = tmp_path / "mark"
    killed = Parallel(batch_size=3)(delayed(jobs.die_once)(str(mark), n) for n in range(20))
    assert killed == list(range(20))
    assert mark.exists()


def test_what_cannot_go_by_name_is_refused_with_the_way_out(by_name: Cluster) -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.raises(LocalProtocolError, match=r"ship_code=True .* --accept-code"):
        GridSearchCV(SGDClassifier(), {"alpha": [1e-4, 1.0]}, cv=3).fit(X, y)
    with pytest.raises(LocalProtocolError, match="ship_code=True"):
        Parallel()(delayed(lambda n: n)(n) for n in range(3))
    with pytest.raises(ConfigError, match=r"ship_code=True .* --accept-code"):
        parallel_config("paramserver", cluster=by_name, unpickle_results=True)
    assert Parallel()(delayed(jobs.square)(n) for n in range(3)) == [0, 1, 4]


def test_searches_run_as_code_where_both_sides_say_so(by_code: Cluster) -> None:
    X, y = load_iris(return_X_y=True)
    grid = {"alpha": [1e-4, 1e-2, 1.0]}
    model = SGDClassifier(random_state=0)
    alone = GridSearchCV(model, grid, cv=3, n_jobs=1).fit(X, y)
    os.kill(by_code.status().workers[0].pid, signal.SIGKILL)
    search = GridSearchCV(model, grid, cv=3, error_score="raise").fit(X, y)
    for key in (f"split{k}_test_score" for k in range(3)):
        np.testing.assert_array_equal(search.cv_results_[key], alone.cv_results_[key])
    several = cross_validate(model, X, y, scoring=["accuracy", "f1_macro"], cv=3)
    expected = cross_validate(model, X, y, scoring=["accuracy", "f1_macro"], cv=3, n_jobs=1)
    for key in ("test_accuracy", "test_f1_macro"):
        np.testing.assert_array_equal(several[key], expected[key])


def test_fitted_estimators_do_not_come_back_unless_the_user_says_so(by_code: Cluster) -> None:
    X, y = load_iris(return_X_y=True)
    forest = RandomForestClassifier(5, random_state=0)
    with pytest.raises(JobFailed, match="DecisionTreeClassifier") as caught:
        forest.fit(X, y)
    assert any("unpickle_results=True" in note for note in caught.value.__notes__)
    with parallel_config("paramserver", cluster=by_code, unpickle_results=True):
        found = forest.fit(X, y).predict_proba(X)
        several = cross_validate(SGDClassifier(random_state=0), X, y, cv=3, return_estimator=True)
        with pytest.raises(JobFailed, match="no 5 please"):
            Parallel()(delayed(jobs.fail_at)(5, n) for n in range(20))
    alone = RandomForestClassifier(5, random_state=0, n_jobs=1).fit(X, y)
    np.testing.assert_array_equal(found, alone.predict_proba(X))
    for model, score in zip(several["estimator"], several["test_score"], strict=True):
        assert isinstance(model, SGDClassifier)
        assert score > 0.5
