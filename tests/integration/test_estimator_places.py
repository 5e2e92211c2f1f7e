"""Where estimators train: the same numbers on a cluster, in this process, and inside a worker."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV

import paramserver as ps
from paramserver.estimators.places import SHARED, Place, SharedCluster, choose_place

ROWS = 1400
PATIENCE_S = 60.0


def rows() -> Any:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, 4))
    return X, (X @ [1.0, -2.0, 0.5, 0.0] > 0).astype(int)


def estimators(cluster: Any) -> list[Any]:
    how: dict[str, Any] = {"n_partitions": 2, "random_state": 0, "cluster": cluster}
    few: dict[str, Any] = {"tol": None, "max_iter": 4, **how}
    return [
        ps.DistributedSGDClassifier(**few),
        ps.DistributedMLPClassifier((5,), **few),
        ps.AveragedEstimator(SGDClassifier(), **few),
        ps.DistributedSGDRegressor(max_iter=50, **how),
    ]


def weights(model: Any) -> Any:
    inner = getattr(model, "estimator_", model)
    arrays = inner.coefs_ if hasattr(inner, "coefs_") else [inner.coef_, inner.intercept_]
    return [array.tolist() for array in arrays]


def fit_here(number: int) -> Any:
    """Fit inside a worker, whose cores are at work already."""
    assert choose_place(ROWS, None, 2, None) == Place(None, 2)
    model = estimators(None)[number].fit(*rows())
    return weights(model), model.n_iter_


@pytest.fixture(scope="module")
def cluster() -> Iterator[ps.LocalCluster]:
    with ps.LocalCluster(2) as cluster:
        yield cluster


@pytest.mark.parametrize("number", range(4))
def test_a_cluster_and_one_process_give_the_same_bits(
    cluster: ps.LocalCluster, number: int
) -> None:
    before = cluster.status().counters
    there = estimators(cluster)[number].fit(*rows())
    assert cluster.status().counters != before  # it was at work
    here, n_rounds = cluster.submit(fit_here, number).result()
    assert weights(there) == here
    assert there.n_iter_ == n_rounds


def fit_it(model: Any, y: Any) -> Any:
    model.fit(rows()[0], y)
    return weights(model), model.loss_curve_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_a_fit_keeps_and_how_its_rates_fall_is_the_same_on_a_cluster(
    cluster: ps.LocalCluster,
) -> None:
    """Also of several numbers a row."""
    X, y = rows()
    how: dict[str, Any] = {"n_partitions": 2, "random_state": 0, "cluster": cluster}
    falling: dict[str, Any] = {"learning_rate": "adaptive", "n_iter_no_change": 1, "max_iter": 12}
    for model, target in (
        (ps.DistributedSGDClassifier(average=True, shuffle=False, eta0=0.1, **falling, **how), y),
        (ps.DistributedMLPRegressor(hidden_layer_sizes=(4,), max_iter=3, **how), np.c_[y, X]),
        (ps.DistributedMLPClassifier((4,), early_stopping=True, max_iter=4, **how), y),
    ):
        here = cluster.submit(fit_it, model, target).result()  # inside a worker, by itself
        assert fit_it(model, target) == here


@pytest.mark.parametrize("number", [0, 1])
def test_pushes_of_several_workers_train_as_well(cluster: ps.LocalCluster, number: int) -> None:
    model = estimators(cluster)[number].set_params(mode="async", max_iter=20)
    if number == 1:
        model.set_params(learning_rate_init=0.01)
    assert model.fit(*rows()).score(*rows()) > 0.93


def test_a_search_trains_on_the_cluster_of_its_estimator(cluster: ps.LocalCluster) -> None:
    model = ps.DistributedSGDClassifier(cluster=cluster, n_partitions=2, random_state=0)
    search = GridSearchCV(model, {"alpha": [1e-4, 1e-2]}, cv=2).fit(*rows())
    assert search.best_estimator_.cluster is cluster
    assert search.best_score_ > 0.9


def test_searches_find_the_same_wherever_their_fits_run(cluster: ps.LocalCluster) -> None:
    """One after the other, in threads side by side, and inside the workers of the same cluster."""
    ps.register_joblib()
    model = estimators(cluster)[0]
    scores = []
    for n_jobs, place in (
        (1, {"backend": "threading"}),
        (2, {"backend": "threading"}),
        (2, {"backend": "paramserver", "cluster": cluster}),
    ):
        with parallel_config(**place):
            search = GridSearchCV(model, {"alpha": [1e-4, 1e-1]}, cv=2, n_jobs=n_jobs).fit(*rows())
        scores.append([search.cv_results_[f"split{k}_test_score"].tolist() for k in (0, 1)])
    assert scores[0] == scores[1] == scores[2]


def fit_in_a_child(model: Any, answer: Any) -> None:
    answer.put(weights(model.fit(*rows())))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_that_was_forked_trains_by_itself(cluster: ps.LocalCluster) -> None:
    forking = multiprocessing.get_context("fork")
    model, answer = estimators(cluster)[0], forking.SimpleQueue()
    child = forking.Process(target=fit_in_a_child, args=(model, answer))
    child.start()
    child.join(PATIENCE_S)
    assert child.exitcode == 0
    assert answer.get() == weights(model.fit(*rows()))


def test_copies_keep_the_very_same_cluster_and_pickles_have_none(
    cluster: ps.LocalCluster,
) -> None:
    model = ps.DistributedSGDClassifier(cluster=cluster)
    assert clone(model).cluster is cluster
    assert copy.copy(cluster) is copy.deepcopy(model).cluster is cluster
    assert pickle.loads(pickle.dumps(model)).cluster is None
    assert pickle.loads(pickle.dumps(cluster)) is None


@pytest.mark.parametrize(
    ("n_rows", "n_workers", "n_partitions", "place"),
    [
        (100, None, None, Place(None, 1)),
        (1023, None, 3, Place(None, 3)),
        (5000, 1, None, Place(None, 1)),
    ],
)
def test_what_is_not_worth_a_process_stays_here(
    n_rows: int, n_workers: int | None, n_partitions: int | None, place: Place
) -> None:
    assert choose_place(n_rows, n_workers, n_partitions, None) == place


def test_a_cluster_gets_as_many_partitions_as_its_workers_have_rows_for(
    cluster: ps.LocalCluster,
) -> None:
    assert choose_place(100_000, None, None, cluster) == Place(cluster, 2)
    assert choose_place(100_000, 7, None, cluster) == Place(cluster, 7)
    assert choose_place(1100, 7, None, cluster) == Place(cluster, 2)


def test_all_that_were_given_no_cluster_share_one_that_grows() -> None:
    shared = SharedCluster()
    try:
        first = shared.get(1)
        assert shared.get(1) is first
        assert shared.get(2) is first
        assert first.n_workers == first.n_wanted == 2
    finally:
        shared.close()
    shared.close()  # there is none any more


def test_a_fit_without_a_cluster_starts_the_shared_one() -> None:
    try:
        model = ps.DistributedSGDClassifier(n_workers=2, random_state=0).fit(*rows())
        assert model.score(*rows()) > 0.9
        assert SHARED.get(2).n_workers == 2
    finally:
        SHARED.close()
