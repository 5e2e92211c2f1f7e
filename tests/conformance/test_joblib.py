"""A cluster is a backend of joblib: what its own backends do holds, and a killed worker is nothing.

Written along joblib's own tests of loky and of dask.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed, parallel_config
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import paramserver as ps
from paramserver.errors import ClusterClosed, ConfigError, JobTimeout, LocalProtocolError, PoisonJob
from paramserver.joblib_arrays import Mapped, SharedArrays
from paramserver.joblib_backend import ClusterBackend
from tests.conformance import joblib_jobs as jobs
from tests.conformance.joblib_estimators import DeadlyClassifier
from tests.integration.scripts import until

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[ps.LocalCluster]:
    ps.register_joblib()
    with ps.LocalCluster(n_workers=2) as cluster:
        yield cluster


@pytest.fixture
def backend(cluster: ps.LocalCluster) -> Iterator[ps.LocalCluster]:
    """All parallel calls of the test run on the cluster."""
    with parallel_config(backend="paramserver", cluster=cluster):
        yield cluster


@pytest.fixture
def own() -> Iterator[ps.LocalCluster]:
    """The same with a cluster of the test's own, for it will not have its workers long.

    So it is wherever a call fails: workers that are in the middle of another of its jobs are
    replaced when they take longer, and the first job of a worker has all imports before it.
    """
    ps.register_joblib()
    with (
        ps.LocalCluster(n_workers=2) as cluster,
        parallel_config(backend="paramserver", cluster=cluster),
    ):
        yield cluster


# --- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
@pytest.mark.parametrize("pre_dispatch", ["all", "2 * n_jobs", 1])
def test_results_come_in_the_order_of_the_calls(backend, batch_size, pre_dispatch) -> None:
    parallel = Parallel(batch_size=batch_size, pre_dispatch=pre_dispatch)
    assert parallel(delayed(jobs.square)(n) for n in range(50)) == [n * n for n in range(50)]


def test_calls_run_in_the_workers(backend) -> None:
    pids = Parallel(batch_size=1)(delayed(jobs.pid_of)(n) for n in range(8))
    assert set(pids) <= {worker.pid for worker in backend.status().workers}


def test_functions_that_are_in_no_module_are_sent_by_value(backend) -> None:
    shift = 3
    assert Parallel()(delayed(lambda n: n + shift)(n) for n in range(5)) == [3, 4, 5, 6, 7]


def test_nothing_to_do_is_done(backend) -> None:
    assert Parallel()(delayed(jobs.square)(n) for n in range(0)) == []


def test_short_calls_are_put_together_more_and_more(backend) -> None:
    parallel = Parallel()
    assert len(parallel(delayed(jobs.square)(n) for n in range(2_000))) == 2_000
    assert parallel.n_dispatched_tasks == 2_000
    assert parallel.n_dispatched_batches < 1_000


def test_the_backend_can_be_named_by_the_call_and_for_several_calls(cluster) -> None:
    with Parallel(n_jobs=2, backend=ClusterBackend(cluster)) as parallel:
        for start in (0, 10):
            calls = (delayed(jobs.square)(n) for n in range(start, start + 5))
            assert parallel(calls) == [n * n for n in range(start, start + 5)]


# --- how many at a time ---------------------------------------------------------------------------


def test_n_jobs_counts_workers_as_joblib_counts_processors(backend) -> None:
    assert joblib.effective_n_jobs(-1) == 2
    assert joblib.effective_n_jobs(None) == 2
    assert joblib.effective_n_jobs(-2) == 1
    assert joblib.effective_n_jobs(1) == 1
    assert joblib.effective_n_jobs(2) == 2
    assert joblib.effective_n_jobs(100) == 2
    with pytest.raises(ValueError, match="n_jobs == 0"):
        joblib.effective_n_jobs(0)


def test_one_job_is_a_loop_in_this_process(backend) -> None:
    assert Parallel(n_jobs=1)([delayed(jobs.pid_of)(0)]) == [os.getpid()]


def test_a_cluster_of_one_worker_is_asked_all_the_same() -> None:
    ps.register_joblib()
    with ps.LocalCluster(1) as one, parallel_config(backend="paramserver", cluster=one):
        pids = Parallel(n_jobs=-1)(delayed(jobs.pid_of)(n) for n in range(3))
        assert set(pids) == {one.status().workers[0].pid}


def test_no_more_than_n_jobs_run_at_a_time(tmp_path) -> None:
    ps.register_joblib()
    with ps.LocalCluster(3) as three, parallel_config(backend="paramserver", cluster=three):
        calls = [delayed(jobs.count_together)(str(tmp_path), n) for n in range(8)]
        assert max(Parallel(n_jobs=2, batch_size=1)(calls)) == 2


# --- generators -----------------------------------------------------------------------------------


def test_a_generator_gives_results_while_others_run(backend, tmp_path) -> None:
    calls = [delayed(jobs.square)(3), delayed(jobs.touch_and_wait)(str(tmp_path), 7)]
    results = Parallel(return_as="generator", batch_size=1)(calls)
    assert next(results) == 9
    (tmp_path / "open").touch()
    assert list(results) == [7]


def test_an_unordered_generator_gives_what_is_there_first(backend, tmp_path) -> None:
    calls = [delayed(jobs.touch_and_wait)(str(tmp_path), 7), delayed(jobs.square)(3)]
    results = Parallel(return_as="generator_unordered", batch_size=1)(calls)
    assert next(results) == 9
    (tmp_path / "open").touch()
    assert list(results) == [7]


def test_a_generator_that_is_dropped_leaves_another_one_alone(own, tmp_path) -> None:
    """Both run at the same time, by the same configuration."""
    stays = Parallel(return_as="generator", batch_size=1)(
        delayed(jobs.touch_and_wait)(str(tmp_path), n) for n in range(2)
    )
    goes = Parallel(return_as="generator", batch_size=1)(delayed(jobs.square)(n) for n in range(9))
    with pytest.warns(UserWarning, match=r"cancelled|not used"):
        goes.close()
    (tmp_path / "open").touch()
    assert list(stays) == [0, 1]


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_an_exception_comes_back_as_it_was_with_the_remote_traceback(own, return_as) -> None:
    with pytest.raises(ZeroDivisionError, match="no 5 please") as caught:
        list(Parallel(return_as=return_as)(delayed(jobs.fail_at)(5, n) for n in range(20)))
    told = "".join(traceback.format_exception(caught.value))
    assert 'raise ZeroDivisionError(f"no {n} please")' in told
    assert "joblib_jobs.py" in told


def test_an_exception_takes_back_what_still_runs(own, tmp_path) -> None:
    calls = [
        delayed(jobs.touch_and_wait)(str(tmp_path), 0),
        delayed(jobs.fail_once_it_runs)(str(tmp_path), 0),
    ]
    with pytest.raises(ZeroDivisionError):
        Parallel(batch_size=1)(calls)
    until(lambda: not own.status().jobs.get("running"), "the long job is taken back")
    assert Parallel()(delayed(jobs.square)(n) for n in range(3)) == [0, 1, 4]


def test_a_time_out_ends_the_call_and_its_jobs(own, tmp_path) -> None:
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.1)(delayed(jobs.touch_and_wait)(str(tmp_path), n) for n in range(3))
    assert Parallel()(delayed(jobs.square)(n) for n in range(3)) == [0, 1, 4]


def test_an_interruption_ends_the_call_and_its_jobs(own, tmp_path) -> None:
    def calls():
        yield delayed(jobs.touch_and_wait)(str(tmp_path), 0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Parallel(batch_size=1)(calls())
    assert Parallel()(delayed(jobs.square)(n) for n in range(3)) == [0, 1, 4]


@pytest.mark.parametrize("error", [RuntimeError("no more"), KeyboardInterrupt()])
@pytest.mark.parametrize("return_as", ["list", "generator_unordered"])
def test_an_iterator_that_fails_later_ends_the_call(own, error, return_as) -> None:
    """It is read by the call's own thread by then."""

    def calls():
        for n in range(20):
            yield delayed(jobs.square)(n)
        assert threading.current_thread() is not threading.main_thread()
        raise error

    with pytest.raises(type(error)):
        list(Parallel(batch_size=1, return_as=return_as)(calls()))


def test_an_iterator_may_wait_for_jobs_of_the_same_cluster(backend) -> None:
    def calls():
        for n in range(20):
            yield delayed(jobs.square)(backend.submit(jobs.square, n).result(PATIENCE_S))

    assert Parallel(batch_size=1)(calls()) == [n**4 for n in range(20)]


def test_what_cannot_be_sent_is_said(backend) -> None:
    with pytest.raises(LocalProtocolError, match="cannot be pickled"):
        Parallel()(delayed(jobs.square)(threading.Lock()) for _ in range(3))


def test_a_call_without_a_cluster_is_told_how_to_give_one() -> None:
    ps.register_joblib()
    with pytest.raises(ConfigError, match=r"cluster=ps\.LocalCluster\(4\)"):
        parallel_config(backend="paramserver")
    with pytest.raises(ConfigError, match="not cluster=4"):
        parallel_config(backend="paramserver", cluster=4)


def test_a_cluster_that_is_closed_meanwhile_ends_the_call() -> None:
    ps.register_joblib()
    cluster = ps.LocalCluster(1)

    def calls():
        for n in range(20):
            if n == 10:
                cluster.shutdown()
            yield delayed(jobs.square)(n)

    with parallel_config(backend="paramserver", cluster=cluster), pytest.raises(ClusterClosed):
        Parallel(batch_size=1)(calls())


# --- lost workers ---------------------------------------------------------------------------------


def test_a_killed_worker_costs_nothing_but_time(own, tmp_path) -> None:
    mark = str(tmp_path / "mark")
    calls = (delayed(jobs.die_once)(mark, n) for n in range(20))
    assert Parallel(batch_size=3)(calls) == list(range(20))
    assert Path(mark).exists()


def test_a_call_that_kills_every_worker_fails_alone(own) -> None:
    with pytest.raises(PoisonJob):
        Parallel()(delayed(jobs.die)(n) for n in range(1))


def test_other_rules_for_the_jobs_come_with_the_cluster(own, tmp_path) -> None:
    strict = own.with_options(timeout_s=0.2)
    with parallel_config(backend="paramserver", cluster=strict), pytest.raises(JobTimeout):
        Parallel()([delayed(jobs.touch_and_wait)(str(tmp_path), 0)])


def test_several_scores_of_a_model_that_kills_its_worker_are_those_alone(own, tmp_path) -> None:
    X, y = load_iris(return_X_y=True)
    how = {"X": X, "y": y, "cv": 4, "scoring": ["accuracy", "f1_macro"], "return_estimator": True}
    alone = cross_validate(DeadlyClassifier(random_state=0), **how, n_jobs=1)
    mark = tmp_path / "mark"
    found = cross_validate(DeadlyClassifier(str(mark), random_state=0), **how, error_score="raise")
    assert mark.exists()
    for key in ("test_accuracy", "test_f1_macro"):
        np.testing.assert_array_equal(found[key], alone[key])
    for one, other in zip(found["estimator"], alone["estimator"], strict=True):
        np.testing.assert_array_equal(one.coef_, other.coef_)


def test_a_forest_is_the_one_that_grows_alone(backend) -> None:
    X, y = load_iris(return_X_y=True)
    alone = RandomForestClassifier(12, random_state=0, n_jobs=1).fit(X, y)
    before = backend.status().jobs["succeeded"]
    forest = RandomForestClassifier(12, random_state=0).fit(X, y)
    assert backend.status().jobs["succeeded"] > before
    np.testing.assert_array_equal(forest.predict_proba(X), alone.predict_proba(X))


def test_a_grid_search_with_a_killed_worker_finds_what_it_finds_alone(own, tmp_path) -> None:
    X, y = load_iris(return_X_y=True)
    grid = {"alpha": [1e-4, 1e-2, 1.0]}
    alone = GridSearchCV(DeadlyClassifier(random_state=0), grid, cv=3, n_jobs=1).fit(X, y)
    mark = tmp_path / "mark"
    deadly = DeadlyClassifier(str(mark), random_state=0)
    search = GridSearchCV(deadly, grid, cv=3, error_score="raise").fit(X, y)
    assert mark.exists()
    assert search.best_params_ == alone.best_params_
    for key in (f"split{k}_test_score" for k in range(3)):
        np.testing.assert_array_equal(search.cv_results_[key], alone.cv_results_[key])


# --- inside of a job ------------------------------------------------------------------------------


def test_parallel_calls_inside_of_a_job_use_threads_of_its_worker(backend) -> None:
    inner = Parallel(batch_size=1)(delayed(jobs.nested)(n) for n in (2, 3))
    assert inner == [
        ("ThreadingBackend", [0, 1], True),
        ("ThreadingBackend", [0, 1, 4], True),
    ]


# --- large arrays ---------------------------------------------------------------------------------


def files_of(cluster: ps.LocalCluster) -> list[Path]:
    folders = cluster.internals().fast_folder, cluster.scratch_folder
    return [path for folder in folders for path in folder.glob("joblib-*")]


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_that_comes_again_is_mapped_and_read_only(backend, order) -> None:
    array = np.ones((1_000, 200), order=order)
    found = Parallel(batch_size=1)(delayed(jobs.look)(array, n) for n in range(6))
    assert found == [("ndarray", True, 2e5), *[("memmap", False, 2e5)] * 5]
    assert files_of(backend) == []


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_array])
def test_the_arrays_of_a_sparse_matrix_are_mapped(backend, kind) -> None:
    matrix = kind(np.ones((100, 60)))
    calls = (delayed(jobs.look_into)(matrix, n) for n in range(3))
    first, *rest = Parallel(batch_size=1, max_nbytes=10_000)(calls)
    assert first == (kind.__name__, True, 6e3)
    assert rest == [(kind.__name__, False, 6e3)] * 2


def table(n: int = 20_000) -> pd.DataFrame:
    """Return one with columns of all kinds."""
    k = np.arange(n)
    return pd.DataFrame(
        {
            "number": k / 7,
            "other": k / 3,
            "count": k.astype(np.int32),
            "name": [f"row {i % 5}" for i in k],
            "kind": pd.Categorical(np.array(["a", "b"])[k % 2]),
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(k, unit="D"),
            "maybe": pd.array([None if i % 3 else i for i in k], "Int64"),
        },
        index=k[::-1],
    )


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_table_that_comes_again_is_mapped(backend, mode) -> None:
    whole = table()
    calls = (delayed(jobs.look_at_table)(whole, n) for n in range(4))
    found = Parallel(batch_size=1, max_nbytes=10_000, mmap_mode=mode)(calls)
    assert [is_mapped for is_mapped, _ in found] == [False, True, True, True]
    for _, arrived in found:
        pd.testing.assert_frame_equal(arrived, whole)
    assert files_of(backend) == []


def test_small_tables_travel_with_their_calls(backend) -> None:
    calls = [delayed(jobs.look_at_table)(table(10), n) for n in range(3)]
    small = table(10)
    calls += [delayed(jobs.look_at_table)(small, n) for n in range(3)]
    found = Parallel(batch_size=1, max_nbytes=1_000_000)(calls)
    assert [is_mapped for is_mapped, _ in found] == [False] * 6


def test_a_table_that_changes_between_two_calls_is_written_anew(cluster) -> None:
    arrays = SharedArrays((cluster.internals().fast_folder,), 8, "r")
    changing = table(1_000)
    seen = []
    for name in ("same", "same", "new", "new"):
        changing.loc[3, "name"] = name
        ((_, (stand_in,), _),) = arrays.replace([(jobs.square, (changing,), {})])
        if isinstance(stand_in, Mapped):
            pd.testing.assert_frame_equal(stand_in.open(*stand_in.args), changing)
            seen.append(stand_in.args[0].name)
    assert seen == ["1.npy", "2.npy", "2.npy"]
    arrays.close()
    assert files_of(cluster) == []


def test_a_search_over_a_table_finds_what_it_finds_alone(backend) -> None:
    whole = table(400)
    y = (whole["count"] % 7 < 3).astype(int)
    columns = make_column_transformer(
        (StandardScaler(), ["number", "other"]), (OneHotEncoder(), ["name", "kind"])
    )
    model = make_pipeline(columns, SGDClassifier(random_state=0))
    with parallel_config(max_nbytes=1_000):
        scores = cross_validate(model, whole, y, cv=4, scoring=["accuracy", "roc_auc"])
    alone = cross_validate(model, whole, y, cv=4, scoring=["accuracy", "roc_auc"], n_jobs=1)
    for key in ("test_accuracy", "test_roc_auc"):
        np.testing.assert_array_equal(scores[key], alone[key])


def test_what_is_mapped_can_be_set_and_turned_off(backend) -> None:
    array = np.ones(1_000)

    def found(**options):
        calls = (delayed(jobs.look)(array, n) for n in range(2))
        return Parallel(batch_size=1, **options)(calls)[1]

    assert found() == ("ndarray", True, 1e3)
    assert found(max_nbytes=100) == ("memmap", False, 1e3)
    assert found(max_nbytes=100, mmap_mode="c") == ("memmap", True, 1e3)
    assert found(max_nbytes=100, mmap_mode="r+") == ("ndarray", True, 1e3)
    assert found(max_nbytes=100, mmap_mode=None) == ("ndarray", True, 1e3)
    assert found(max_nbytes=None) == ("ndarray", True, 1e3)


def test_an_array_that_changes_between_two_calls_is_written_anew(cluster) -> None:
    folders = (cluster.internals().fast_folder,)
    arrays = SharedArrays(folders, 8, "r")
    array = np.arange(10.0).reshape(2, 5).T
    seen = []
    for value in (0.0, 0.0, 7.0, 7.0, np.nan, np.nan):
        array[3, 1] = value
        ((_, (stand_in,), _),) = arrays.replace([(jobs.square, (array,), {})])
        if isinstance(stand_in, Mapped):
            np.testing.assert_array_equal(stand_in.open(*stand_in.args), array)
            seen.append(stand_in.args[0].name)
    assert seen == ["1.npy", "2.npy", "2.npy", "3.npy", "3.npy"]
    arrays.close()
    assert files_of(cluster) == []


def test_where_there_is_no_room_arrays_travel_with_their_calls(backend, monkeypatch) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    array = np.ones(200_000)
    found = Parallel(batch_size=1)(delayed(jobs.look)(array, n) for n in range(3))
    assert found == [("ndarray", True, 2e5)] * 3
    assert files_of(backend) == []


def test_where_there_is_no_room_tables_travel_with_their_calls(backend, monkeypatch) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paramserver.joblib_arrays.write_pieces", full)
    calls = [delayed(jobs.look_at_table)(whole, n) for whole in [table()] for n in range(3)]
    found = Parallel(batch_size=1, max_nbytes=10_000)(calls)
    assert [is_mapped for is_mapped, _ in found] == [False] * 3


def test_a_mapped_file_of_the_caller_is_shared_and_written_to(backend, tmp_path) -> None:
    """The example of joblib's own documentation."""
    output = np.memmap(tmp_path / "output", np.float64, "w+", shape=5)
    Parallel(batch_size=1)(delayed(jobs.write_at)(output, n) for n in range(5))
    assert output.tolist() == [0, 1, 2, 3, 4]
