"""Every mistake of docs/mistakes.md is made here, and what is said is what the page says.

A test is named as the heading on the page. Blocks of the page are compared with whole messages,
white space apart; ``...`` on the page stands for anything.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier
from sklearn.tree import DecisionTreeClassifier

import paramserver as ps
from paramserver import cli
from paramserver.observe.run_folder import RunFolder
from paramserver.transport.security import make_keys
from tests.integration import scripts
from tests.integration.remote import AgentProcess

PATIENCE_S = 60.0
PAGE = Path(__file__).resolve().parents[2] / "docs" / "mistakes.md"
SAID = dict(
    re.findall(
        r"^### ([^\n]*)\n(?:(?!^#).)*?^```text\n(.*?)^```",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)
"""Heading -> what is said."""
X = np.random.default_rng(0).standard_normal((100, 3))
Y = (X[:, 0] > 0).astype(np.int64)

Says = Callable[[object], None]


def name_of(heading: str) -> str:
    """Return the name of the test that makes a mistake."""
    return "test_" + "_".join(re.findall(r"[a-z0-9]+", heading.lower()))


BY_TEST = {name_of(heading): said for heading, said in SAID.items()}


@pytest.fixture
def says(request: pytest.FixtureRequest) -> Says:
    """Compare an error, or what was printed, with the page."""
    expected = " ".join(BY_TEST[request.node.originalname].split())
    pattern = re.compile(".*?".join(map(re.escape, expected.split("..."))), re.DOTALL)

    def compare(said: object) -> None:
        if isinstance(said, BaseException):
            said = f"{type(said).__name__}: {said}"
        words = " ".join(str(said).split())
        assert pattern.fullmatch(words), f"\nsaid: {words}\npage: {expected}"

    return compare


def error_of(call: Callable[[], object]) -> BaseException:
    """Return what a call raises, or what its future ends with."""
    try:
        future = call()
        assert isinstance(future, Future)
        error = future.exception(PATIENCE_S)
    except Exception as raised:  # the mistake itself
        return raised
    assert error is not None
    return error


def test_each_mistake_of_the_page_is_made_here_and_no_other() -> None:
    here = {name for name in globals() if name.startswith("test_")}
    here.remove("test_each_mistake_of_the_page_is_made_here_and_no_other")
    assert here == set(BY_TEST)
    assert len(SAID) == PAGE.read_text(encoding="utf-8").count("\n### ")
    assert len(SAID) >= 25


# --- jobs -----------------------------------------------------------------------------------------


def test_the_call_is_given_instead_of_the_function(says: Says, cluster: ps.LocalCluster) -> None:
    says(error_of(lambda: cluster.submit(abs(-1))))  # type: ignore[arg-type]


def test_a_worker_cannot_import_the_module_of_a_function(
    says: Says, cluster: ps.LocalCluster, only_here: types.ModuleType
) -> None:
    says(error_of(lambda: cluster.submit(only_here.double, 2)))


def test_a_job_returns_what_cannot_travel(says: Says, cluster: ps.LocalCluster) -> None:
    says(error_of(lambda: cluster.submit(threading.Lock)))


def test_a_result_is_too_large_for_a_message(says: Says, cluster: ps.LocalCluster) -> None:
    says(error_of(lambda: cluster.submit(np.empty, 3 << 30, "u1")))


def test_a_future_is_an_argument_of_a_job(says: Says, cluster: ps.LocalCluster) -> None:
    future = cluster.submit(abs, -1)
    says(error_of(lambda: cluster.submit(lambda x: x.result(), future)))
    says(error_of(lambda: cluster.submit(lambda x: x.result(), x=future)))


def test_the_cluster_is_an_argument_of_a_job(says: Says, cluster: ps.LocalCluster) -> None:
    says(error_of(lambda: cluster.submit(lambda x: x.submit(abs, -1), cluster)))
    view = cluster.with_options(priority=1)
    says(error_of(lambda: cluster.submit(lambda x: x.submit(abs, -1), view)))


def test_a_job_ends_its_worker(says: Says) -> None:
    with ps.LocalCluster(1) as cluster:
        # as the kernel does when memory is out
        says(error_of(lambda: cluster.submit(lambda: os.kill(os.getpid(), signal.SIGKILL))))
        assert cluster.submit(abs, -1).result(PATIENCE_S) == 1


def test_a_job_never_ends(says: Says) -> None:
    with ps.LocalCluster(1) as cluster:
        impatient = cluster.with_options(timeout_s=0.2)
        says(error_of(lambda: impatient.submit(lambda: threading.Event().wait())))


def test_a_job_is_handed_in_when_the_cluster_has_ended(says: Says) -> None:
    with ps.LocalCluster(1) as over:
        pass
    says(error_of(lambda: over.submit(abs, -1)))
    says(error_of(lambda: over.map(abs, [-1])))  # type: ignore[arg-type, return-value]


def test_a_cluster_is_used_in_a_forked_process(says: Says, tmp_path: Path) -> None:
    script = scripts.run(
        tmp_path,
        """
        import os, warnings
        import paramserver as ps

        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of the fork itself
        with ps.LocalCluster(1) as cluster:
            if (child := os.fork()) == 0:
                try:
                    cluster.submit(abs, -1)
                except Exception as error:
                    print(f"{type(error).__name__}: {error}", flush=True)
                os._exit(0)
            os.waitpid(child, 0)
        """,
    )
    says(script.out)


def test_there_are_to_be_no_workers(says: Says) -> None:
    says(error_of(lambda: ps.LocalCluster(0)))


# --- other machines -------------------------------------------------------------------------------


@contextmanager
def strict_worker(keys: Path, *, ship_code: bool) -> Iterator[ps.Cluster]:
    """Open a cluster with a worker that allows only what has to be."""
    with (
        ps.Cluster("tcp://127.0.0.1:0", keys, ship_code=ship_code, verbose=False) as cluster,
        AgentProcess(cluster.address, keys, allow=()),
    ):
        cluster.wait_for_workers(1, PATIENCE_S)
        yield cluster


@pytest.fixture
def nobody(keys: Path) -> Iterator[ps.Cluster]:
    """A cluster that listens, and that nobody has joined."""
    with ps.Cluster("tcp://127.0.0.1:0", keys, no_workers_timeout_s=0.2, verbose=False) as cluster:
        yield cluster


def test_a_lambda_goes_to_another_machine(says: Says, nobody: ps.Cluster) -> None:
    says(error_of(lambda: nobody.submit(lambda x: x + 1, 41)))


def test_code_goes_to_a_worker_that_does_not_accept_it(says: Says, keys: Path) -> None:
    with strict_worker(keys, ship_code=True) as cluster:
        says(error_of(lambda: cluster.submit(lambda x: x + 1, 41)))


def test_a_function_is_of_a_module_that_is_not_allowed(says: Says, keys: Path) -> None:
    with strict_worker(keys, ship_code=False) as cluster:
        says(error_of(lambda: cluster.submit(joblib.dump, 1, "file")))


def test_there_are_no_keys(says: Says) -> None:
    says(error_of(lambda: ps.Cluster("tcp://127.0.0.1:0")))


def test_the_folder_of_the_keys_is_not_there(says: Says, tmp_path: Path) -> None:
    says(error_of(lambda: ps.Cluster("tcp://127.0.0.1:0", tmp_path / "kyes")))


def test_others_can_read_a_secret_key(says: Says, keys: Path, tmp_path: Path) -> None:
    careless = tmp_path / "keys"
    shutil.copytree(keys, careless)
    (careless / "master.secret").chmod(0o644)
    says(error_of(lambda: ps.Cluster("tcp://127.0.0.1:0", careless)))


def test_a_port_is_busy(says: Says, keys: Path, nobody: ps.Cluster) -> None:
    says(error_of(lambda: ps.Cluster(nobody.address, keys, verbose=False)))


def test_a_worker_dials_a_port_where_nobody_listens(says: Says, keys: Path) -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))  # bound, but not listening: nobody else gets the port
        address = f"tcp://127.0.0.1:{placeholder.getsockname()[1]}"
        with AgentProcess(address, keys, 1, "--give-up", "1.5") as agent:
            assert agent.wait(PATIENCE_S) == 75
    says(agent.said)


def test_a_worker_has_the_keys_of_another_master(
    says: Says, nobody: ps.Cluster, tmp_path: Path
) -> None:
    with AgentProcess(nobody.address, make_keys(tmp_path / "others")) as agent:
        assert agent.wait(PATIENCE_S) == 77
    says(agent.said)


def test_no_worker_comes(says: Says, nobody: ps.Cluster) -> None:
    says(error_of(lambda: nobody.submit(joblib.hash, 1)))


def test_a_worker_runs_another_release(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "paramserver.runtime.parts.release", lambda: "paramserver 99.0, Python 3.99"
    )
    says(error_of(lambda: ps.LocalCluster(1)))


# --- this machine ---------------------------------------------------------------------------------


def test_there_are_more_workers_than_open_files(says: Says, tmp_path: Path) -> None:
    script = scripts.run(
        tmp_path,
        """
        import resource
        import paramserver as ps
        from paramserver.errors import LaunchFailed

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        try:
            ps.LocalCluster(40)
        except LaunchFailed as error:
            print(f"{type(error).__name__}: {error}")
        """,
    )
    says(script.out)


def test_shared_memory_is_too_small(
    says: Says, cluster: ps.LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, start: int, n_bytes: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    says(error_of(lambda: fit(cluster)))


def test_an_extra_is_not_installed(
    says: Says, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    says(told("train", "--mode", "avg", "--kernel", "numba"))


def test_a_plot_without_matplotlib(
    says: Says, cluster: ps.LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = fit(cluster)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    says(error_of(result.plot))


# --- data -----------------------------------------------------------------------------------------


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run the command line in an empty folder with price.csv; return what it says of a mistake."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{size},{rooms},{100 * size + rooms}" for size in range(9) for rooms in range(9)]
    (tmp_path / "price.csv").write_text("\n".join(["size,rooms,price", *lines]))

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["paramserver", *words])
        assert cli.main() != 0
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return said

    return run


TRAIN = ("train", "--mode", "avg", "--no-out", "--no-baseline")


def fit(cluster: ps.LocalCluster, **others: object) -> ps.TrainingResult:
    settings = {"learner": ps.Softmax(3, 2), "data": (X, Y), "mode": ps.Averaging(rounds=1)}
    return ps.fit(cluster=cluster, verbose=False, **(settings | others))  # type: ignore[arg-type]


def test_the_name_of_a_data_set_is_mistyped(says: Says, told: Callable[..., str]) -> None:
    says(told(*TRAIN, "--data", "digit"))


def test_a_file_is_not_there(says: Says, told: Callable[..., str]) -> None:
    says(told(*TRAIN, "--data", "prize.csv"))


def test_a_column_holds_text(says: Says, told: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "text.csv").write_text("size,town,price\n" + "80,Bern,100\n" * 9)
    says(told(*TRAIN, "--data", "text.csv"))


def test_a_cell_is_empty(says: Says, told: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "holes.csv").write_text("a,b,c\n1,2,3\n1,2,4\n1,,5\n" + "1,2,6\n" * 9)
    says(told(*TRAIN, "--data", "holes.csv"))


def test_the_label_s_column_is_mistyped(says: Says, told: Callable[..., str]) -> None:
    says(told(*TRAIN, "--data", "price.csv", "--label", "prise"))


def test_the_held_out_file_has_other_columns(
    says: Says, told: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "other.csv").write_text("size,price\n1,100\n2,200\n")
    says(told(*TRAIN, "--data", "price.csv", "--test", "other.csv"))


def test_x_and_y_differ_in_length(says: Says, cluster: ps.LocalCluster) -> None:
    says(error_of(lambda: fit(cluster, data=(X, Y[:-1]))))


def test_there_is_nan_in_the_data(says: Says, cluster: ps.LocalCluster) -> None:
    holed = X.copy()
    holed[3, 2] = np.nan
    says(error_of(lambda: fit(cluster, data=(holed, Y))))


def test_labels_are_text(says: Says, cluster: ps.LocalCluster) -> None:
    says(error_of(lambda: fit(cluster, data=(X, np.array(["no", "yes"])[Y]))))


def test_the_model_does_not_fit_the_labels(says: Says, told: Callable[..., str]) -> None:
    says(told(*TRAIN, "--model", "ridge"))


# --- training -------------------------------------------------------------------------------------


def test_the_learning_rate_is_too_large(
    says: Says, cluster: ps.LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    line = ps.Linear(3)
    rows = (X, X[:, 0])
    too_large = {"learner": line, "data": rows, "test": rows, "lr": 100.0}
    says(error_of(lambda: fit(cluster, mode=ps.Averaging(rounds=50), **too_large)))
    pushed = error_of(lambda: fit(cluster, mode=ps.AsyncSGD(epochs=50), **too_large))
    assert "The learning rate is too large" in str(pushed)
    assert capfd.readouterr().err == ""  # no warnings of numpy's beside it


def test_an_option_is_mistyped(says: Says, told: Callable[..., str]) -> None:
    says(told(*TRAIN, "--epoch", "3"))


def test_a_setting_is_of_the_other_mode(says: Says, told: Callable[..., str]) -> None:
    says(told(*TRAIN, "--epochs", "3"))


def test_a_setting_in_a_file_is_misspelt(
    says: Says, told: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "my.toml").write_text("local_step = 3\n")
    says(told(*TRAIN, "--config", "my.toml"))


@pytest.fixture
def run_in_a_folder(tmp_path: Path) -> Path:
    """The folder of a run that is over."""
    with RunFolder.make(tmp_path / "run") as folder:
        folder.write_config({"mode": "avg"}, ())
        return folder.path


def test_a_run_is_resumed_with_other_settings(
    says: Says, told: Callable[..., str], run_in_a_folder: Path
) -> None:
    says(told("train", "--resume", str(run_in_a_folder), "--lr", "0.5"))


def test_the_folder_of_a_run_is_taken(
    says: Says, told: Callable[..., str], run_in_a_folder: Path
) -> None:
    says(told("train", "--mode", "avg", "--out", run_in_a_folder.name))


def test_an_estimator_of_scikit_learn_is_given_to_fit(says: Says, cluster: ps.LocalCluster) -> None:
    says(error_of(lambda: fit(cluster, learner=SGDClassifier())))


def test_an_estimator_has_no_partial_fit(says: Says) -> None:
    says(error_of(lambda: ps.AveragedEstimator(DecisionTreeClassifier()).fit(X, Y)))


def test_an_estimator_is_used_before_it_is_fitted(says: Says) -> None:
    says(error_of(lambda: ps.DistributedSGDClassifier().predict(X)))
