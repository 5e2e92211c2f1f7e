"""Training in this very process: the same machines, and nothing left to chance."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import paramserver as ps
from paramserver.errors import ConfigError, DataError, Diverged, ShapeMismatch
from paramserver.models.linear import Linear
from paramserver.models.mlp import MLP
from paramserver.models.softmax import Softmax
from paramserver.training.learner import Batch
from paramserver.training.result import Progress


def rows(n: int = 90, *, sparse: bool = False) -> Any:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 4))
    y = (X @ np.array([1.0, -2.0, 0.5, 0.0]) > 0).astype(np.int64)
    if sparse:
        from scipy.sparse import csr_array

        return csr_array(np.where(rng.random(X.shape) < 0.5, X, 0)), y
    return X, y


LEARNER = Linear(4, 1, "log_loss", 0.01, "float64")


def train(data: Any = None, **settings: Any) -> ps.TrainingResult:
    options = {"mode": ps.Averaging(rounds=6, n_partitions=3), "cluster": None, "batch_size": 8}
    return ps.fit(settings.pop("learner", LEARNER), data or rows(), **{**options, **settings})


def test_averaging_tells_what_it_has_done() -> None:
    result = train()
    assert (result.mode, result.units, result.examples) == ("avg", 6, 540)
    assert (result.n_partitions, result.workers_lost, result.rejected) == (3, 0, {"cancelled": 0})
    assert result.history[-1].test_score is None
    assert LEARNER.score(result.weights, Batch(*rows())) > 0.95
    assert train().sha256 == result.sha256


def test_the_divergence_of_a_round_is_that_of_its_learners() -> None:
    """One step over all rows of each partition: then what each has come to is known."""
    X, y = rows()
    start = np.arange(5) / 8
    results = []
    for first, stop in pairwise((0, 30, 60, 90)):
        g = np.empty(5)
        LEARNER.gradient(start, Batch(X[first:stop], y[first:stop]), g)
        results.append(start - 0.5 * g)
    mean = np.mean(results, axis=0)
    expected = np.mean([np.linalg.norm(w - mean) for w in results])
    told: list[Progress] = []
    mode = ps.Averaging(rounds=1, n_partitions=3, local_steps=1)
    result = train(
        mode=mode, start=start, lr=0.5, batch_size=30, partition="contiguous",
        on_progress=told.append, in_step=True,
    )  # fmt: skip
    assert result.divergence == pytest.approx(expected, rel=1e-12)
    assert [progress.divergence for progress in told] == [result.divergence]


def test_without_rounds_there_is_no_divergence() -> None:
    result = train(mode=ps.AsyncSGD(epochs=1, n_partitions=3), in_step=True)
    assert {progress.divergence for progress in result.history} == {None}


def test_pushes_take_turns_and_are_as_stale_as_others_are_many() -> None:
    """A partition sees what it saw at its last turn: the two others have pushed since."""
    mode = ps.AsyncSGD(epochs=4, n_partitions=3)
    result = train(mode=mode, seed=1)
    assert (result.mode, result.units, result.examples) == ("async", 48, 360)
    # At the begin of each of the 4 epochs all have seen the same weights.
    assert result.staleness == {0: 4, 1: 4, 2: 40}
    assert train(mode=mode, seed=1).sha256 == result.sha256
    assert train(mode=mode, seed=2).sha256 != result.sha256


def test_a_step_that_waits_for_all_is_that_of_the_whole_batch() -> None:
    together = train(mode=ps.AsyncSGD(epochs=3, n_partitions=3, staleness_bound=0))
    assert together.units == 12
    assert together.staleness == {0: 36}


def test_sparse_rows_are_pushed_as_the_rows_of_the_weights_that_they_touch() -> None:
    without = ps.Linear(4, 1, "log_loss", 0.0, "float64")
    results = [
        ps.fit(
            without,
            rows(sparse=True),
            mode=ps.AsyncSGD(epochs=3, n_partitions=2, sparse=sparse),
            cluster=None,
            batch_size=8,
        )
        for sparse in (True, False)
    ]
    np.testing.assert_allclose(results[0].weights, results[1].weights, rtol=1e-10)
    assert results[0].staleness == results[1].staleness


def test_several_local_steps_make_one_push() -> None:
    result = train(mode=ps.AsyncSGD(epochs=2, n_partitions=3, local_steps=2))
    assert (result.units, result.examples) == (12, 180)


def test_a_quorum_takes_whoever_is_done_first_by_chance() -> None:
    """Were it always the same, the rows of the others would never count."""
    mode = ps.Averaging(rounds=12, n_partitions=3, wait_for=1)
    result = train(mode=mode, seed=3)
    assert result.rejected == {"cancelled": 24, "late": 24}
    assert train(mode=mode, seed=3).sha256 == result.sha256
    assert train(mode=mode, seed=4).sha256 != result.sha256


@pytest.mark.parametrize("mode", [ps.Averaging(6, n_partitions=3), ps.AsyncSGD(6, n_partitions=3)])
def test_in_step_each_round_is_looked_at_and_the_end_is_where_a_callback_says(mode: Any) -> None:
    seen: list[Progress] = []

    def third(progress: Progress) -> bool:
        seen.append(progress)
        return len(seen) == 3

    result = train(mode=mode, callbacks=[third], in_step=True)
    per_unit = 1 if isinstance(mode, ps.Averaging) else 12
    assert [progress.unit for progress in seen] == [per_unit, 2 * per_unit, 3 * per_unit]
    assert [progress.epochs for progress in result.history] == [1.0, 2.0, 3.0]
    assert result.units == 3 * per_unit


def test_weights_to_start_from_are_gone_on_from_and_left_alone() -> None:
    first = train(mode=ps.Averaging(rounds=1, n_partitions=1))
    start = first.weights.copy()
    zero = train(mode=ps.Averaging(rounds=1, n_partitions=1), start=np.zeros(5))
    assert zero.sha256 == first.sha256
    second = train(mode=ps.Averaging(rounds=1, n_partitions=1), start=start)
    assert second.history[-1].train_loss < first.history[-1].train_loss
    np.testing.assert_array_equal(start, first.weights)


@pytest.mark.parametrize("start", [np.zeros(4), np.full(5, np.nan)])
def test_weights_that_do_not_fit_are_refused(start: Any) -> None:
    with pytest.raises((DataError, ShapeMismatch), match="start"):
        train(start=start)


@pytest.mark.parametrize("mode", [ps.Averaging(6, n_partitions=3), ps.AsyncSGD(6, n_partitions=3)])
def test_what_diverges_is_said_with_the_last_finite_weights(mode: Any) -> None:
    regression = Linear(4, 1, "squared_error", 0.0, "float64")
    with pytest.raises(Diverged, match=r"not finite|overflow") as caught:
        ps.fit(regression, rows(), mode=mode, cluster=None, batch_size=8, lr=1e200)
    assert np.isfinite(caught.value.weights).all()


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_gradients_that_overflow_are_told_by_no_warning_of_numpy(loss: str) -> None:
    """As on workers: who takes them says what they are, with the last finite weights."""
    X, y = rows()
    with pytest.raises(Diverged, match=r"not finite|overflow"):
        train((X, 1000.0 * y), learner=MLP(4, 0, loss_name=loss), mode=ps.AsyncSGD(20), lr=10.0)


def test_checkpoints_need_a_master_that_may_die(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one"):
        train(checkpoints=ps.Checkpoints(tmp_path / "kept"))


def test_it_is_shown_as_any_training_is(capsys: pytest.CaptureFixture[str]) -> None:
    train(verbose=True)
    assert "6 rounds" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("mode", [ps.Averaging(2, n_partitions=2), ps.AsyncSGD(2, n_partitions=2)])
def test_the_bits_do_not_depend_on_the_number_of_threads(mode: Any) -> None:
    """Batches so large that a BLAS with two threads would split them; `lr` is chosen, too."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 1000), dtype=np.float32)
    y, learner, found = rng.integers(0, 10, 500), Softmax(1000, 10), set()
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            result = train((X, y), learner=learner, mode=mode, batch_size=250)
            assert {each["num_threads"] for each in threadpool_info()} == {n_threads}
        found.add((result.sha256, result.lr))
    assert len(found) == 1
