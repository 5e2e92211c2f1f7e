"""What cannot work is refused in words, at once, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import socket
import sys
import tempfile
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramserver as ps
from paramserver.errors import (
    ClusterClosed,
    ClusterError,
    ConfigError,
    JobFailed,
    LaunchFailed,
    LocalProtocolError,
    MessageTooLarge,
    NoWorkers,
)
from paramserver.models.softmax import Softmax
from paramserver.protocol.limits import Limits, check_size
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.transport.security import make_keys
from tests.integration import scripts

PATIENCE_S = 30.0


def test_a_function_that_the_worker_cannot_find_is_named(
    cluster: ps.LocalCluster, only_here: types.ModuleType
) -> None:
    pid = cluster.submit(os.getpid).result(PATIENCE_S)
    error = cluster.submit(only_here.double, 2).exception(PATIENCE_S)
    assert isinstance(error, JobFailed)
    assert "No module named 'only_here'" in str(error)
    error = cluster.submit(str, only_here.Thing()).exception(PATIENCE_S)
    assert "only_here" in str(error)
    with pytest.raises(JobFailed, match="only_here"):
        list(cluster.map(only_here.double, range(5)))
    assert cluster.submit(os.getpid).result(PATIENCE_S) == pid


def test_modules_beside_the_script_are_found(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("def double(x):\n    return 2 * x\n")
    script = scripts.run(
        tmp_path,
        """
        import beside
        import paramserver as ps

        with ps.LocalCluster(1) as cluster:
            print(cluster.submit(beside.double, 4).result())
        """,
    )
    assert script.out.split() == ["8"]


@pytest.mark.parametrize("flags", [("-O",), ("-OO", "-W", "error"), ("-X", "dev", "-b")])
def test_it_works_whatever_options_python_was_started_with(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    script = scripts.run(
        tmp_path,
        """
        import os, sys
        import paramserver as ps

        with ps.LocalCluster(2) as cluster:
            assert not __debug__ or "-X" in sys.orig_argv
            print(cluster.submit(lambda: sys.flags.optimize).result() == sys.flags.optimize)
            print(repr(cluster.submit(lambda: os._exit(3)).exception())[:9])
            print(sum(cluster.map(abs, range(100))))
        """,
        *flags,
    )
    assert script.out.split() == ["True", "PoisonJob", "4950"]


def test_results_that_cannot_be_sent_are_said_to_be(cluster: ps.LocalCluster) -> None:
    for value in (threading.Lock, socket.socket, lambda: (n for n in [1])):
        error = cluster.submit(value).exception(PATIENCE_S)
        assert isinstance(error, LocalProtocolError)
        assert "cannot be pickled" in str(error)
    assert cluster.submit(np.ones, 3_000_000).result(PATIENCE_S).sum() == 3_000_000


def test_what_no_message_can_carry_is_refused_before_it_is_sent() -> None:
    small = Limits(frame_bytes=100, gather_bytes=10, message_bytes=1000)
    array = memoryview(bytes(600))
    check_size(Payload(PayloadKind.PICKLE, b"x" * 400, (array,)), "call", small)
    with pytest.raises(MessageTooLarge, match="a call would take 1001 bytes"):
        check_size(Payload(PayloadKind.PICKLE, b"x" * 401, (array,)), "call", small)
    with pytest.raises(MessageTooLarge, match="a result would take 1001 bytes"):
        check_size(Payload(PayloadKind.PICKLE, b"x" * 1001), "result", small)
    with pytest.raises(MessageTooLarge, match="1025 arrays"):
        check_size(Payload(PayloadKind.PICKLE, b"x", (b"y",) * 1025), "result")


# --- starts that fail -----------------------------------------------------------------------------


def test_workers_of_another_release_are_refused_with_both_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "paramserver.runtime.parts.release", lambda: "paramserver 99.0, Python 3.99"
    )
    with pytest.raises(LaunchFailed, match=r"the master runs paramserver 99\.0, Python 3\.99"):
        ps.LocalCluster(2, start_timeout_s=PATIENCE_S)


def test_workers_that_cannot_start_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "paramserver.runtime.worker_spec.WorkerSpec.arguments",
        lambda self: [sys.executable, "-c", "raise SystemExit('no license for this machine')"],
    )
    with pytest.raises(LaunchFailed, match="no license for this machine"):
        ps.LocalCluster(2, start_timeout_s=PATIENCE_S)


def test_an_interpreter_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "paramserver.runtime.worker_spec.WorkerSpec.arguments", lambda self: ["/no/such/python"]
    )
    with pytest.raises(LaunchFailed, match="/no/such/python"):
        ps.LocalCluster(1, start_timeout_s=PATIENCE_S)


def test_a_temporary_folder_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/self")
    with pytest.raises(ConfigError, match="Scratch files cannot be kept in /proc/self"):
        ps.LocalCluster(1)


def test_a_temporary_folder_with_a_long_name_is_refused_or_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with ps.LocalCluster(1) as cluster:  # the socket goes where the path is short
        assert cluster.submit(abs, -1).result(PATIENCE_S) == 1
    assert not list(deep.glob("*/*"))


@pytest.mark.parametrize("call", ["os.mkdir", "os.open", "os.link"])
def test_a_full_disk_is_an_error_that_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module, name = call.split(".")
    real = getattr(sys.modules[module], name)
    root = str(tmp_path / f"paramserver-{os.geteuid()}")
    os.mkdir(root, 0o700)

    def full(path: Any, *args: Any, **kwargs: Any) -> Any:
        if os.fspath(path).startswith(root + os.sep):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(f"paramserver.runtime.scratch.{call}", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        ps.LocalCluster(1)
    monkeypatch.undo()
    assert caught.value.filename.startswith(root)
    assert not list(Path(root).iterdir())


def test_what_a_closed_or_foreign_cluster_cannot_do_is_refused(cluster: ps.LocalCluster) -> None:
    with pytest.raises(ConfigError):
        cluster.scale(-1)
    with pytest.raises(ClusterError):
        cluster.wait_for_workers(50, timeout_s=0.05)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learner": Softmax}, r"Softmax is a class: give an instance of it, Softmax\(\.\.\.\)"),
        ({"learner": object()}, r"learner object has no method start\(rng\)"),
        ({"mode": "avg"}, r"ps.Averaging\(...\) or ps.AsyncSGD\(...\), not 'avg'"),
        ({"lr": "fast"}, "a number or 'auto', not 'fast'"),
        ({"seed": -1}, "seed must be 0 or more, not -1"),
    ],
)
def test_what_is_no_training_is_refused_in_words(
    cluster: ps.LocalCluster, settings: dict[str, Any], words: str
) -> None:
    given = {"learner": Softmax(2, 2), "mode": ps.Averaging(rounds=1), "cluster": cluster}
    with pytest.raises(ConfigError, match=words):
        ps.fit(data=(np.eye(2), np.arange(2)), **(given | settings))


def test_a_cluster_without_workers_or_that_is_closed_trains_nothing(tmp_path: Path) -> None:
    data, mode = (np.eye(2), np.arange(2)), ps.Averaging(rounds=1)
    keys = make_keys(tmp_path / "keys")
    with (
        ps.Cluster("tcp://127.0.0.1:0", keys=keys, verbose=False) as cluster,
        pytest.raises(NoWorkers, match=r"cluster.wait_for_workers\(n\), or give n_partitions"),
    ):
        ps.fit(Softmax(2, 2), data, mode=mode, cluster=cluster)
    with pytest.raises(ClusterClosed, match="has been shut down"):
        ps.fit(Softmax(2, 2), data, mode=mode, cluster=cluster)
