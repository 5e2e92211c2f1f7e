"""Scratch folders: private, locked while they live, swept when their owner is dead."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import threading
import warnings
from pathlib import Path

import pytest

from paramserver.errors import ClusterError, ConfigError
from paramserver.runtime import scratch as scratch_module
from paramserver.runtime.scratch import Scratch, read_nonce, sweep

NAME = f"paramserver-{os.geteuid()}"


def abandon(scratch: Scratch) -> None:
    """Free the locks as the kernel does for a dead process, and leave the folders."""
    for folder in (scratch._fast, scratch._disk):
        if folder._lock_fd >= 0:
            os.close(folder._lock_fd)
            folder._lock_fd = -1


def test_it_is_private_and_gone_after_close(tmp_path: Path) -> None:
    with Scratch.create(tmp_path) as scratch:
        assert scratch.fast == scratch.disk == tmp_path / NAME / scratch.run
        for folder in (scratch.fast, scratch.fast.parent):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for file in (scratch.nonce_path, tmp_path / NAME / f"{scratch.run}.lock"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        (scratch.disk / "sub").mkdir()
        (scratch.disk / "sub" / "file").write_bytes(b"data")
    assert list((tmp_path / NAME).iterdir()) == []
    scratch.close()


def test_by_default_it_is_in_memory_and_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, disk = tmp_path / "shm", tmp_path / "tmp"
    memory.mkdir()
    disk.mkdir()
    monkeypatch.setattr(scratch_module, "_SHARED_MEMORY", memory)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(disk))
    with Scratch.create() as scratch:
        assert scratch.fast == memory / NAME / scratch.run
        assert scratch.disk == disk / NAME / scratch.run
    assert [*(memory / NAME).iterdir(), *(disk / NAME).iterdir()] == []
    shutil.rmtree(memory)
    with Scratch.create() as scratch:
        assert scratch.fast == scratch.disk == disk / NAME / scratch.run


def test_a_dead_run_is_swept_and_a_living_one_is_not(tmp_path: Path) -> None:
    dead, alive = Scratch.create(tmp_path), Scratch.create(tmp_path)
    abandon(dead)
    assert sweep(tmp_path) == [dead.fast]
    assert not dead.fast.exists()
    assert alive.nonce_path.exists()
    assert sweep(tmp_path) == []
    alive.close()


def test_a_new_run_sweeps_first(tmp_path: Path) -> None:
    dead = Scratch.create(tmp_path)
    abandon(dead)
    with Scratch.create(tmp_path) as scratch:
        assert sorted(p.name for p in (tmp_path / NAME).iterdir()) == [
            scratch.run,
            f"{scratch.run}.lock",
        ]


def test_two_living_runs_cannot_share_a_name(tmp_path: Path) -> None:
    with Scratch.create(tmp_path, run="abc") as scratch:
        with pytest.raises(ClusterError, match="Run abc is in use"):
            Scratch.create(tmp_path, run="abc")
        assert scratch.nonce_path.exists()


def test_a_run_that_is_resumed_starts_with_empty_folders(tmp_path: Path) -> None:
    dead = Scratch.create(tmp_path, run="abc")
    (dead.fast / "old").touch()
    abandon(dead)
    with Scratch.create(tmp_path, run="abc") as scratch:
        assert os.listdir(scratch.fast) == ["nonce"]


def test_a_folder_without_its_lock_file_is_a_leftover_too(tmp_path: Path) -> None:
    root = tmp_path / NAME
    root.mkdir(mode=0o700)
    (root / "abc").mkdir()
    (root / "abc" / "old").touch()
    with Scratch.create(tmp_path, run="abc") as scratch:
        assert os.listdir(scratch.fast) == ["nonce"]


@pytest.mark.parametrize("run", ["../x", "a/b", ".", "a b", "", "x" * 65])
def test_a_run_that_is_no_name_of_a_folder_is_refused(tmp_path: Path, run: str) -> None:
    if run:
        with pytest.raises(ConfigError, match="A run is named by"):
            Scratch.create(tmp_path, run=run)
    else:  # means: choose one
        with Scratch.create(tmp_path, run=run) as scratch:
            assert len(scratch.run) == 16
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_root_that_others_can_enter_is_refused(tmp_path: Path, mode: int) -> None:
    root = tmp_path / NAME
    root.mkdir()
    root.chmod(mode)
    with pytest.raises(ConfigError, match="not a folder that only you can enter") as caught:
        Scratch.create(tmp_path)
    assert caught.value.field == "scratch"
    assert list(root.iterdir()) == []


def test_a_root_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    someone_else = os.geteuid() + 1
    (tmp_path / f"paramserver-{someone_else}").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: someone_else)
    with pytest.raises(ConfigError, match=f"owner {os.getuid()}"):
        Scratch.create(tmp_path)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_link_or_a_file_planted_as_root_is_refused(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    if kind == "link":
        (tmp_path / NAME).symlink_to(target)
    else:
        (tmp_path / NAME).touch(mode=0o600)
    with pytest.raises(ConfigError, match="not a folder that only you can enter"):
        Scratch.create(tmp_path)
    assert list(target.iterdir()) == []


def test_a_base_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set TMPDIR"):
        Scratch.create(tmp_path / "missing")


def test_a_planted_link_as_lock_file_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / NAME
    root.mkdir(mode=0o700)
    (root / "abc.lock").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        Scratch.create(tmp_path, run="abc")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("when", ["before the lock", "after the lock", "while it is swept"])
def test_a_sweep_in_the_middle_of_a_start_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    flock, swept = fcntl.flock, []

    def interrupted(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        if when == "while it is swept":
            (new,) = (tmp_path / NAME).glob("*.new")
            sweeper = os.open(new, os.O_RDWR)
            flock(sweeper, operation)
            try:
                flock(fd, operation)
            finally:
                os.close(sweeper)
        if when == "before the lock":
            swept.extend(sweep(tmp_path))
        flock(fd, operation)
        if when == "after the lock":
            swept.extend(sweep(tmp_path))

    monkeypatch.setattr(fcntl, "flock", interrupted)
    with Scratch.create(tmp_path, run="abc") as scratch:
        assert [*swept, *sweep(tmp_path)] == []
        assert scratch.nonce_path.exists()
        assert sorted(os.listdir(tmp_path / NAME)) == ["abc", "abc.lock"]


def test_a_lock_file_that_vanishes_while_it_is_looked_at_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = Scratch.create(tmp_path, run="abc")
    link = os.link

    def fail_and_vanish(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        abandon(dead)
        try:
            link(source, target)
        finally:
            sweep(tmp_path)

    monkeypatch.setattr(os, "link", fail_and_vanish)
    with Scratch.create(tmp_path, run="abc") as scratch:
        assert sweep(tmp_path) == []
        assert scratch.nonce_path.exists()


def test_a_start_that_died_half_way_is_swept(tmp_path: Path) -> None:
    Scratch.create(tmp_path).close()
    (tmp_path / NAME / "0123.new").touch()
    sweep(tmp_path)
    assert os.listdir(tmp_path / NAME) == []


def test_a_sweep_that_comes_second_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = Scratch.create(tmp_path)
    abandon(dead)
    flock = fcntl.flock

    def come_second(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        assert sweep(tmp_path) == [dead.fast]
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", come_second)
    assert sweep(tmp_path) == []


def test_many_starts_and_sweeps_at_once_never_hit_a_living_run(tmp_path: Path) -> None:
    failures: list[str] = []

    def start_again_and_again() -> None:
        for i in range(60):
            scratch = Scratch.create(tmp_path)
            sweep(tmp_path)
            if not (scratch.nonce_path.exists() and read_nonce(scratch.nonce_path)):
                failures.append(scratch.run)
            if i % 2:
                scratch.close()
            else:
                abandon(scratch)

    threads = [threading.Thread(target=start_again_and_again) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    sweep(tmp_path)
    assert list((tmp_path / NAME).iterdir()) == []


@pytest.mark.parametrize(
    ("number", "is_told"),
    [(errno.EACCES, True), (errno.ENOTEMPTY, False), (errno.ENOENT, False)],
)
def test_a_leftover_that_cannot_be_removed_does_not_stop_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_told: bool
) -> None:
    """And is not worth a word while workers of the dead run are still on their way out."""
    dead = Scratch.create(tmp_path)
    abandon(dead)

    def refuse(path: Path) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert sweep(tmp_path) == []
    assert [str(warning.message) for warning in told] == [
        f"{dead.fast} cannot be removed: [Errno {number}] {os.strerror(number)}"
    ] * is_told
    assert sweep(tmp_path) == [dead.fast]


def test_a_forked_copy_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = Scratch.create(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: scratch._owner_pid + 1)
        scratch.close()
    assert scratch.nonce_path.exists()
    scratch.close()
    assert not scratch.fast.exists()


def test_whatever_fails_on_the_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(n: int) -> str:
        raise OSError("no randomness")

    with monkeypatch.context() as patch:
        patch.setattr("secrets.token_hex", refuse)
        with pytest.raises(OSError, match="no randomness"):
            Scratch.create(tmp_path, run="abc")
    in_the_way = tmp_path / NAME / "abc"
    in_the_way.touch()
    with pytest.raises(NotADirectoryError):
        Scratch.create(tmp_path, run="abc")
    assert list((tmp_path / NAME).iterdir()) == [in_the_way]


def test_a_folder_that_cannot_be_removed_is_left_to_the_next_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = Scratch.create(tmp_path)

    def refuse(path: Path) -> None:
        raise OSError(39, "Directory not empty")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(OSError, match="not empty"):
            scratch.close()
    scratch.close()
    assert sweep(tmp_path) == [scratch.fast]


def test_the_nonce_proves_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Scratch.create(tmp_path) as scratch, Scratch.create(tmp_path) as other:
        assert scratch.nonce() != other.nonce()
        assert read_nonce(scratch.nonce_path) == scratch.nonce()
        (tmp_path / "boot").write_text("another machine, or another boot\n")
        proof = scratch.nonce()
        monkeypatch.setattr(scratch_module, "_BOOT_ID", tmp_path / "boot")
        assert read_nonce(scratch.nonce_path) not in ("", proof)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_nonce_that_cannot_be_read_proves_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "nonce").write_bytes(content)
    assert read_nonce(tmp_path / "nonce") == ""


def test_a_socket_gets_a_path_that_is_short_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / ("long" * 30)
    disk.mkdir()
    with Scratch.create() as scratch:
        assert scratch.socket_path("m") == scratch.disk / "m"
        with pytest.raises(ConfigError, match="longer than 100 bytes"):
            scratch.socket_path("m" * 80)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(disk))
    with Scratch.create() as scratch:
        assert scratch.socket_path("m") == scratch.fast / "m"
