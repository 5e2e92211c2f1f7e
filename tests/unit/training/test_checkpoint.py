"""Checkpoints in a folder: whole or not there, the newest good one read, the disk's moods borne."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramserver.errors import ConfigError
from paramserver.training.checkpoint import Checkpoints, CheckpointWarning, Disk, TrainingState

STEPS = ("create", "write", "sync", "rename", "sync_folder")


def state_of(number: int) -> TrainingState:
    return TrainingState({"unit": number}, {"w": np.full(3, float(number))})


def units(checkpoints: Checkpoints) -> list[int]:
    return [int(path.stem) for path in checkpoints.paths()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def newest_unit(folder: Path) -> Any:
    found = Checkpoints(folder).newest()
    return None if found is None else (found.meta["unit"], found.arrays["w"].tolist())


def test_a_folder_that_is_not_there_holds_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "none")
    assert (checkpoints.paths(), checkpoints.newest()) == ([], None)
    assert names(tmp_path) == []


def test_the_newest_is_read_and_the_last_three_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "deep" / "folder")
    for number in range(1, 6):
        checkpoints.save(state_of(number))
    assert names(checkpoints.folder) == [
        "00000003.checkpoint",
        "00000004.checkpoint",
        "00000005.checkpoint",
        "lock",
    ]
    assert newest_unit(checkpoints.folder) == (5, [5.0, 5.0, 5.0])
    assert checkpoints.counters == {"saved": 5}


def test_the_best_one_stays_besides_also_when_another_process_goes_on(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path, keep=2)
    for number, score in enumerate((0.1, 0.9, 0.2, float("nan"), float("inf")), start=1):
        first.save(state_of(number), score)
    assert units(first) == [2, 4, 5]
    again = Checkpoints(tmp_path, keep=2)
    for number in (6, 7):
        again.save(state_of(number), 0.5)
    assert units(again) == [2, 6, 7]
    again.save(state_of(8), 0.91)
    assert units(again) == [7, 8]


def test_numbers_go_on_where_an_earlier_process_has_ended(tmp_path: Path) -> None:
    for number in (1, 2):
        Checkpoints(tmp_path).save(state_of(number))
    assert units(Checkpoints(tmp_path)) == [1, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["w", "outer.0"])
def test_what_is_not_finite_is_not_written(tmp_path: Path, bad: float, name: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_of(1))
    arrays = {"w": np.ones(3), "n": np.arange(3)} | {name: np.array([1.0, bad])}
    assert checkpoints.save(TrainingState({}, arrays)) is None
    assert checkpoints.counters == {"saved": 1, "nonfinite": 1}
    assert newest_unit(tmp_path) == (1, [1.0, 1.0, 1.0])


@pytest.mark.parametrize("damage", ["byte", "cut", "empty", "foreign", "folder"])
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in (1, 2):
        checkpoints.save(state_of(number))
    newest = checkpoints.paths()[-1]
    whole = bytearray(newest.read_bytes())
    whole[len(whole) // 2] ^= 1
    if damage == "folder":
        newest.unlink()
        newest.mkdir()
    else:
        contents = {"byte": whole, "cut": whole[:-1], "empty": b"", "foreign": b"hello" * 100}
        newest.write_bytes(contents[damage])
    with pytest.warns(CheckpointWarning, match=newest.name):
        found = checkpoints.newest()
    assert found is not None
    assert found.meta == {"unit": 1}
    assert checkpoints.counters["damaged"] == 1


def test_none_is_read_where_all_are_damaged(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in (1, 2):
        checkpoints.save(state_of(number))
    for path in checkpoints.paths():
        path.write_bytes(b"")
    with pytest.warns(CheckpointWarning):
        assert checkpoints.newest() is None
    assert checkpoints.counters["damaged"] == 2


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    for name in ("notes.txt", "x.checkpoint", "00000009.checkpoint.bak"):
        (tmp_path / name).write_text("mine")
    checkpoints = Checkpoints(tmp_path, keep=1)
    for number in (1, 2):
        checkpoints.save(state_of(number))
    assert names(tmp_path) == [
        "00000002.checkpoint",
        "00000009.checkpoint.bak",
        "lock",
        "notes.txt",
        "x.checkpoint",
    ]


# --- two masters ---------------------------------------------------------------------------------


def test_a_second_master_is_refused_at_once_and_told_who_is_there(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as first:
        with first:  # the same one may enter again
            pass
        with pytest.raises(ConfigError, match=f"Process {os.getpid()} is training in"):
            Checkpoints(tmp_path).save(state_of(1))
        assert first.save(state_of(2)) is not None
    assert Checkpoints(tmp_path).save(state_of(3)) is not None


def test_the_lock_is_given_back_although_a_child_that_is_being_started_has_it_too(
    tmp_path: Path,
) -> None:
    with Checkpoints(tmp_path):
        copies = [os.dup(fd) for fd in _descriptors_of(tmp_path / "lock")]
    assert len(copies) == 1
    try:
        assert Checkpoints(tmp_path).save(state_of(1)) is not None
    finally:
        os.close(copies[0])


def _descriptors_of(path: Path) -> list[int]:
    links = ((int(link.name), link) for link in Path("/proc/self/fd").iterdir())
    return [fd for fd, link in links if link.exists() and os.readlink(link) == str(path)]


def test_the_lock_goes_with_a_process_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from paramserver.training.checkpoint import Checkpoints\n"
        "with Checkpoints(sys.argv[1]):\n print('locked', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigError, match=f"Process {holder.pid} is training"):
            Checkpoints(tmp_path).save(state_of(1))
        holder.kill()
    assert Checkpoints(tmp_path).save(state_of(1)) is not None


# --- the disk ------------------------------------------------------------------------------------


class Broken(Disk):
    """Fails at one step, as often as it is asked."""

    def __init__(self, step: str, number: int) -> None:
        def fail(*_: object) -> Any:
            raise OSError(number, os.strerror(number))

        setattr(self, step, fail)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_fails_costs_the_checkpoint_alone(
    tmp_path: Path, step: str, number: int
) -> None:
    Checkpoints(tmp_path, keep=1).save(state_of(1))
    broken = Checkpoints(tmp_path, keep=1, disk=Broken(step, number))
    with pytest.warns(CheckpointWarning, match=os.strerror(number)) as warned:
        assert [broken.save(state_of(2)) for _ in range(3)] == [None, None, None]
    assert len(warned) == 1
    assert broken.counters == {"failed": 3}
    assert "00000001.checkpoint" in names(tmp_path)
    assert not [name for name in names(tmp_path) if name.endswith(".unfinished")]
    if step != "sync_folder":  # that one has its name already, but it may not outlast the power
        assert newest_unit(tmp_path) == (1, [1.0, 1.0, 1.0])
    assert Checkpoints(tmp_path, keep=1).save(state_of(3)) is not None


class Hesitant(Disk):
    """Writes a byte at a time."""

    def write(self, fd: int, piece: memoryview) -> int:
        return super().write(fd, piece[:1])


def test_a_disk_that_takes_little_at_a_time_gets_all(tmp_path: Path) -> None:
    Checkpoints(tmp_path, disk=Hesitant()).save(state_of(4))
    assert newest_unit(tmp_path) == (4, [4.0, 4.0, 4.0])


def test_what_cannot_be_removed_is_counted_and_does_no_harm(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, disk=Broken("remove", errno.EIO))
    assert [checkpoints.save(state_of(number)) is None for number in (1, 2)] == [False, False]
    assert checkpoints.counters == {"saved": 2, "unremoved": 1}


def test_what_was_begun_and_cannot_be_removed_goes_when_the_folder_is_next_taken(
    tmp_path: Path,
) -> None:
    disk = Broken("sync", errno.EIO)
    disk.remove = Broken("remove", errno.EIO).remove  # type: ignore[method-assign]
    broken = Checkpoints(tmp_path, disk=disk)
    with pytest.warns(CheckpointWarning, match=os.strerror(errno.EIO)):
        assert broken.save(state_of(1)) is None
    assert broken.counters == {"failed": 1, "unremoved": 1}
    assert [name.endswith(".unfinished") for name in names(tmp_path)] == [True, False]
    Checkpoints(tmp_path).save(state_of(2))
    assert names(tmp_path) == ["00000001.checkpoint", "lock"]


def test_a_disk_that_has_no_room_for_a_name_locks_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    one = Checkpoints(tmp_path)
    with ExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.warns(CheckpointWarning, match="No space left"):
                stack.enter_context(one)
        with pytest.raises(ConfigError, match=r"Process \(unknown\) is training in"):
            Checkpoints(tmp_path).save(state_of(1))
        assert one.save(state_of(2)) is not None
    assert newest_unit(tmp_path) == (2, [2.0, 2.0, 2.0])


def test_a_damaged_checkpoint_is_not_kept_for_having_been_the_best(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path, keep=1)
    for number, score in ((1, 0.9), (2, 0.1)):
        first.save(state_of(number), score)
    assert units(first) == [1, 2]
    first.paths()[0].write_bytes(b"")
    again = Checkpoints(tmp_path, keep=1)
    again.save(state_of(3), 0.2)
    assert units(again) == [3]


def test_an_interrupt_amid_writing_leaves_nothing_half(tmp_path: Path) -> None:
    class Interrupted(Disk):
        def sync(self, fd: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Checkpoints(tmp_path, disk=Interrupted()).save(state_of(1))
    assert names(tmp_path) == ["lock"]


def test_a_full_disk_of_the_kernels_own(tmp_path: Path) -> None:
    """The real thing: the limit of the size of a file stands for the size of the disk."""
    program = (
        "import resource, sys, warnings, numpy as np\n"
        "from paramserver.training.checkpoint import Checkpoints, TrainingState\n"
        "checkpoints = Checkpoints(sys.argv[1], keep=1)\n"
        "small, big = (TrainingState({}, {'w': np.ones(n)}) for n in (10, 100_000))\n"
        "assert checkpoints.save(small) is not None\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    assert checkpoints.save(big) is None and checkpoints.save(big) is None\n"
        "assert len(caught) == 1 and checkpoints.counters['failed'] == 2\n"
        "assert checkpoints.newest().arrays['w'].size == 10\n"
        "assert checkpoints.save(small) is not None\n"
    )
    subprocess.run([sys.executable, "-W", "always", "-c", program, str(tmp_path)], check=True)
    assert names(tmp_path) == ["00000002.checkpoint", "lock"]


@pytest.mark.parametrize("place", ["file", "under a file"])
def test_a_folder_that_cannot_be_is_refused_in_words(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if place == "file" else tmp_path / "file" / "folder"
    with pytest.raises(ConfigError, match="Choose another folder"), Checkpoints(folder):
        pass


@pytest.mark.parametrize("settings", [{"every_s": 0.0}, {"every_s": float("nan")}, {"keep": 0}])
def test_settings_that_cannot_be_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Checkpoints(tmp_path, **settings)


# --- kill -9 at every step -----------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from paramserver.training.checkpoint import Checkpoints, Disk, TrainingState

class Deadly(Disk):
    "Dies before its n-th step; a write takes half of what is left."
    def __init__(self, n): self.left = n
    def count(self):
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
    def create(self, path): self.count(); return super().create(path)
    def write(self, fd, piece):
        self.count()
        return super().write(fd, piece[: max(1, len(piece) // 2)])
    def sync(self, fd): self.count(); super().sync(fd)
    def rename(self, old, new): self.count(); super().rename(old, new)
    def sync_folder(self, folder): self.count(); super().sync_folder(folder)
    def remove(self, path): self.count(); super().remove(path)

def state(number):
    return TrainingState({"unit": number}, {"w": np.full(3, float(number))})

for step in range(1000):
    folder = Path(sys.argv[1], f"{step:03d}")
    Checkpoints(folder, keep=1).save(state(1))
    child = os.fork()
    if child == 0:
        Checkpoints(folder, keep=1, disk=Deadly(step)).save(state(2))
        os._exit(0)
    _, how = os.waitpid(child, 0)
    print(step, os.waitstatus_to_exitcode(how))
    if how == 0:
        break
"""


def test_a_master_killed_at_any_step_of_a_write_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # no threads in what is forked
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    codes = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0]
    found = [newest_unit(folder) for folder in sorted(tmp_path.iterdir())]  # no warning: none half
    before, after = (1, [1.0] * 3), (2, [2.0] * 3)
    # Since the rename it is the new one: sync of the folder, remove, and not killed at all.
    assert found == [before] * (len(codes) - 3) + [after] * 3
    assert len(codes) > 20  # create, three pieces by halves, sync, rename
    for folder in tmp_path.iterdir():
        Checkpoints(folder, keep=1).save(state_of(3))
        assert len(names(folder)) == 2, "one checkpoint and the lock"
        assert newest_unit(folder) == (3, [3.0] * 3)
