"""A training whose master was interrupted or killed goes on as if nothing had been."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramserver as ps
from paramserver.errors import ConfigError
from paramserver.training.checkpoint import CheckpointWarning, Disk
from paramserver.training.checkpoint_file import read_state
from paramserver.training.optimizers import Momentum
from paramserver.training.result import Progress
from tests.numerics.learners import LeastSquares, Ledger, OneThreaded


@pytest.fixture(scope="module")
def cluster() -> Iterator[ps.LocalCluster]:
    with ps.LocalCluster(2) as cluster:
        yield cluster


def least_squares_data(n: int = 203, d: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((n, d))
    return X, X @ rng.standard_normal(d) + 0.1 * rng.standard_normal(n)


def numbered_data(n: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.arange(n)
    return numbers[:, None].astype(np.float64), numbers


def interrupt(progress: Progress) -> None:
    """Press Ctrl-C as soon as something has been done."""
    assert progress.unit >= 1
    raise KeyboardInterrupt


def interrupted_and_resumed(folder: Path, **settings: Any) -> tuple[ps.TrainingResult, int]:
    """Return the result of the second part, and where the first one has ended."""
    with pytest.raises(KeyboardInterrupt):
        ps.fit(checkpoints=ps.Checkpoints(folder), on_progress=interrupt, **settings)
    state = ps.Checkpoints(folder).newest()
    assert state is not None
    assert state.meta["unit"] >= 1
    result = ps.fit(checkpoints=ps.Checkpoints(folder), resume=True, **settings)
    return result, state.meta["unit"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"outer": Momentum(0.7, nesterov=True)},
        {"tail": 0.9},
        {"outer": Momentum(0.5), "tail": 0.5, "local_steps": 7},
    ],
)
def test_averaging_interrupted_and_resumed_ends_with_the_same_bits(
    cluster: ps.LocalCluster, tmp_path: Path, settings: dict[str, Any]
) -> None:
    common: dict[str, Any] = {
        "learner": LeastSquares(7, pause_s=0.001),
        "data": least_squares_data(),
        "mode": ps.Averaging(rounds=30, n_partitions=3, **settings),
        "cluster": cluster,
        "seed": 1,
    }
    whole = ps.fit(**common)
    result, unit = interrupted_and_resumed(tmp_path, **common)
    assert unit < 30
    assert result.sha256 == whole.sha256
    assert (result.units, result.examples) == (30, whole.examples)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adagrad", "adam"])
def test_pushes_of_one_partition_interrupted_and_resumed_end_with_the_same_bits(
    cluster: ps.LocalCluster, tmp_path: Path, optimizer: str
) -> None:
    common: dict[str, Any] = {
        "learner": LeastSquares(7, pause_s=0.002),
        "data": least_squares_data(),
        "mode": ps.AsyncSGD(epochs=3, n_partitions=1, optimizer=optimizer),
        "cluster": cluster,
        "lr": 0.05,
        "batch_size": 8,
    }
    whole = ps.fit(**common)
    result, unit = interrupted_and_resumed(tmp_path, **common)
    assert unit < whole.units
    assert result.sha256 == whole.sha256
    assert (result.units, result.examples) == (whole.units, whole.examples)
    assert result.staleness == whole.staleness


@pytest.mark.parametrize("bound", [None, 0, 2])
def test_no_push_is_lost_or_applied_twice_when_training_is_resumed(
    cluster: ps.LocalCluster, tmp_path: Path, bound: int | None
) -> None:
    result, unit = interrupted_and_resumed(
        tmp_path,
        learner=Ledger(240, pause_s=0.002),
        data=numbered_data(240),
        mode=ps.AsyncSGD(epochs=2, n_partitions=2, staleness_bound=bound),
        cluster=cluster,
        lr=1.0,
        batch_size=4,
    )
    assert unit < result.units
    assert sum(result.staleness.values()) == 120
    assert sum(result.staleness_by_worker.values(), Counter()) == result.staleness
    assert result.examples == 480
    assert result.counters == {"checkpoints_saved": 1}
    if bound == 0:  # a row adds its share of the step it is in: a half, or all where one is alone
        assert ((result.weights >= 1) & (result.weights <= 2)).all()
    else:
        assert np.array_equal(result.weights, np.full(240, 2.0))


def test_a_finished_training_that_is_resumed_has_the_same_result_and_can_go_on_for_longer(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    common: dict[str, Any] = {
        "learner": LeastSquares(7),
        "data": least_squares_data(),
        "cluster": cluster,
        "test": least_squares_data(50),
    }

    def fit(rounds: int, **more: Any) -> ps.TrainingResult:
        return ps.fit(mode=ps.Averaging(rounds=rounds, n_partitions=2), **common, **more)

    checkpoints = ps.Checkpoints(tmp_path)
    first = fit(4, checkpoints=checkpoints)
    again = fit(4, checkpoints=checkpoints, resume=True)
    assert again.sha256 == first.sha256
    assert [row.unit for row in again.history] == [4]
    longer = fit(9, checkpoints=checkpoints, resume=True)
    assert longer.sha256 == fit(9).sha256
    assert [row.unit for row in longer.history] == [4, 9]


class FullAtLast(Disk):
    """Takes one checkpoint, and no more."""

    n_taken = 0

    def sync(self, fd: int) -> None:
        if self.n_taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.n_taken += 1


def test_training_goes_on_where_the_disk_is_full_and_can_be_resumed_from_what_it_took(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    common: dict[str, Any] = {
        "learner": LeastSquares(7, pause_s=0.002),
        "data": least_squares_data(),
        "mode": ps.Averaging(rounds=30, n_partitions=2),
        "cluster": cluster,
    }
    full = ps.Checkpoints(tmp_path, every_s=0.02, disk=FullAtLast())
    with pytest.warns(CheckpointWarning, match="No space left") as warned:
        result = ps.fit(checkpoints=full, **common)
    assert len(warned) == 1
    assert result.counters["checkpoints_saved"] == 1
    assert result.counters["checkpoints_failed"] >= 1
    (path,) = full.paths()
    resumed = ps.fit(checkpoints=ps.Checkpoints(tmp_path), resume=True, **common)
    assert resumed.sha256 == result.sha256
    assert resumed.units == 30
    assert path.exists()


def test_a_training_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    common: dict[str, Any] = {
        "learner": LeastSquares(7, pause_s=0.002),
        "data": least_squares_data(),
        "mode": ps.Averaging(rounds=30, n_partitions=2),
        "cluster": cluster,
    }
    whole = ps.fit(checkpoints=ps.Checkpoints(tmp_path, every_s=0.02), **common)
    before, newest = ps.Checkpoints(tmp_path).paths()[-2:]
    damaged = bytearray(newest.read_bytes())
    damaged[-40] ^= 1
    newest.write_bytes(damaged)
    with pytest.warns(CheckpointWarning, match=newest.name):
        resumed = ps.fit(checkpoints=ps.Checkpoints(tmp_path), resume=True, **common)
    assert read_state(before).meta["unit"] < 30
    assert resumed.sha256 == whole.sha256
    assert resumed.counters == {"checkpoints_damaged": 1, "checkpoints_saved": 1}


def test_where_there_is_no_checkpoint_yet_training_begins(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    common: dict[str, Any] = {"mode": ps.Averaging(rounds=2, n_partitions=2), "cluster": cluster}
    data = least_squares_data()
    new = ps.fit(LeastSquares(7), data, checkpoints=ps.Checkpoints(tmp_path), resume=True, **common)
    assert new.sha256 == ps.fit(LeastSquares(7), data, **common).sha256


def test_what_was_chosen_by_itself_stays_when_training_is_resumed(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    """The number of partitions is that of the workers at the start, the rate that of the data."""
    cluster.wait_for_workers(2)
    data, mode = least_squares_data(), ps.Averaging(rounds=2)
    whole = ps.fit(LeastSquares(7), data, mode=ps.Averaging(rounds=5), cluster=cluster)
    ps.fit(LeastSquares(7), data, mode=mode, cluster=cluster, checkpoints=ps.Checkpoints(tmp_path))
    with ps.LocalCluster(1) as lonely:
        result = ps.fit(
            LeastSquares(7),
            data,
            mode=ps.Averaging(rounds=5),
            cluster=lonely,
            checkpoints=ps.Checkpoints(tmp_path),
            resume=True,
        )
    assert (result.n_partitions, result.lr) == (2, whole.lr)
    assert result.sha256 == whole.sha256


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"batch_size": 16}, "batch_size"),
        ({"seed": 3}, "seed"),
        ({"lr": 0.01}, "lr"),
        ({"mode": ps.Averaging(rounds=2, n_partitions=3)}, "n_partitions"),
        ({"mode": ps.Averaging(rounds=2, n_partitions=2, local_epochs=2)}, "mode.local_epochs"),
        ({"mode": ps.Averaging(rounds=2, n_partitions=2, outer=Momentum(0.7))}, "mode.outer"),
        ({"mode": ps.AsyncSGD(n_partitions=2)}, "mode.type"),
        ({"learner": LeastSquares(7, pause_s=1e-9)}, "learner.pause_s"),
        ({"data": least_squares_data(204)}, "data.shape"),
        ({"data": (2 * least_squares_data()[0], least_squares_data()[1])}, "data.X"),
        ({"data": (least_squares_data()[0], 2 * least_squares_data()[1])}, "data.y"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_by_the_name_of_what_differs(
    cluster: ps.LocalCluster,
    recorded: Path,
    change: dict[str, Any],
    field: str,
) -> None:
    with pytest.raises(ConfigError, match=f"{field} was .* and is .* now") as caught:
        ps.fit(**(RECORDED | {"cluster": cluster, "resume": True} | change),
               checkpoints=ps.Checkpoints(recorded))  # fmt: skip
    names = caught.value.field, str(caught.value).split(": ")[1].split(" was ")[0]
    assert field in (names[0], names[1]) or field in str(caught.value)


def test_workers_that_would_round_otherwise_do_as_those_before_when_training_is_resumed(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    settings = RECORDED | {"learner": OneThreaded(7)}
    longer = settings | {"mode": ps.Averaging(rounds=5, n_partitions=2)}
    whole = ps.fit(**longer, cluster=cluster)
    ps.fit(**settings, cluster=cluster, checkpoints=ps.Checkpoints(tmp_path))
    with ps.LocalCluster(1, blas_threads=2) as other:
        checkpoints = ps.Checkpoints(tmp_path)
        result = ps.fit(**longer, cluster=other, checkpoints=checkpoints, resume=True)
    assert result.sha256 == whole.sha256


RECORDED: dict[str, Any] = {
    "learner": LeastSquares(7),
    "data": least_squares_data(),
    "mode": ps.Averaging(rounds=2, n_partitions=2),
    "lr": 0.1,
}


@pytest.fixture(scope="module")
def recorded(cluster: ps.LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    ps.fit(**RECORDED, cluster=cluster, checkpoints=ps.Checkpoints(folder))
    return folder


def test_the_folder_of_another_training_is_not_written_to(
    cluster: ps.LocalCluster, recorded: Path
) -> None:
    before = sorted(recorded.iterdir())
    with pytest.raises(ConfigError, match="resume=True"):
        ps.fit(**RECORDED, cluster=cluster, checkpoints=ps.Checkpoints(recorded))
    assert sorted(recorded.iterdir()) == before


def test_resuming_needs_a_folder(cluster: ps.LocalCluster) -> None:
    with pytest.raises(ConfigError, match="checkpoints="):
        ps.fit(**RECORDED, cluster=cluster, resume=True)


def test_two_masters_do_not_train_in_one_folder(cluster: ps.LocalCluster, recorded: Path) -> None:
    with (
        ps.Checkpoints(recorded),
        pytest.raises(ConfigError, match="is training in"),
    ):
        ps.fit(**RECORDED, cluster=cluster, checkpoints=ps.Checkpoints(recorded), resume=True)
