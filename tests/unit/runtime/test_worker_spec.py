"""The command line, the environment and the configuration that come of a spec."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

import pytest

import paramserver
from paramserver.runtime.worker_spec import THREADS_VARIABLES, WorkerSpec

SPEC = WorkerSpec(address="ipc:///tmp/x", run="0123456789abcdef", env={"COLOUR": "red"})
ROOT = str(Path(paramserver.__file__).parent.parent)


def test_the_command_line_is_readable_and_holds_no_secret() -> None:
    arguments = SPEC.arguments()
    assert arguments[0] == sys.executable
    assert arguments[-4:] == ["-P", "-m", "paramserver.worker", "--child"]
    assert "ipc:///tmp/x" not in " ".join(arguments)


def test_options_of_this_interpreter_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess._args_from_interpreter_flags", lambda: ["-O", "-X", "dev"])
    assert SPEC.arguments()[1:4] == ["-O", "-X", "dev"]


def test_numeric_libraries_get_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    env = SPEC.environment()
    assert {env[name] for name in THREADS_VARIABLES} == {"1"}
    assert env["COLOUR"] == "red"
    assert WorkerSpec("", "", blas_threads=3).environment()["MKL_NUM_THREADS"] == "3"
    assert WorkerSpec("", "", blas_threads=None).environment()["OMP_NUM_THREADS"] == "16"
    own = WorkerSpec("", "", env={"OMP_NUM_THREADS": "2"})
    assert own.environment()["OMP_NUM_THREADS"] == "2"
    assert own.environment()["OPENBLAS_NUM_THREADS"] == "1"


def test_freed_memory_is_kept_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    assert SPEC.environment()["MALLOC_TRIM_THRESHOLD_"] == str(64 << 20)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "0")
    assert SPEC.environment()["MALLOC_TRIM_THRESHOLD_"] == "0"


def test_the_child_finds_this_package_and_takes_the_addition_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(site, "getsitepackages", lambda: ["/nowhere"])
    monkeypatch.setenv("PYTHONPATH", "/a")
    assert SPEC.environment()["PYTHONPATH"] == os.pathsep.join(["/a", ROOT])
    assert SPEC.config("a-0", "a", "t", 5).python_path == "/a"
    monkeypatch.delenv("PYTHONPATH")
    assert SPEC.environment()["PYTHONPATH"] == ROOT
    assert SPEC.config("a-0", "a", "t", 5).python_path is None
    monkeypatch.setattr(site, "getsitepackages", lambda: [ROOT])
    assert "PYTHONPATH" not in SPEC.environment()


def test_the_search_path_is_this_process_s_at_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", "/lib"])
    assert SPEC.config("a-0", "a", "t", 5).sys_path == (os.getcwd(), "/lib")
    own = WorkerSpec("", "", sys_path=("/only",))
    assert own.config("a-0", "a", "t", 5).sys_path == ("/only",)


def test_the_configuration_carries_all_of_the_spec() -> None:
    spec = WorkerSpec(
        address="tcp://h:1",
        run="r",
        trusted=True,
        keys_dir="/keys",
        allow=("mine",),
        accept_code=True,
        memory_limit_bytes=99,
        scratch_fast="/fast",
        scratch_disk="/disk",
        options={"x": 1},
    )
    config = spec.config("a-0", "a", "token", 5)
    assert (config.worker_id, config.agent_id, config.token) == ("a-0", "a", "token")
    assert (config.recorder_fd, config.parent_pid) == (5, os.getpid())
    for name in ("address", "run", "trusted", "keys_dir", "allow", "accept_code"):
        assert getattr(config, name) == getattr(spec, name)
    for name in ("memory_limit_bytes", "scratch_fast", "scratch_disk", "options"):
        assert getattr(config, name) == getattr(spec, name)
