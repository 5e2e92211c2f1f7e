"""The control groups of this process, and what they allow. It reads; it changes nothing.

A container, a batch system or systemd may allow less than the machine has, and nobody says so: who
takes more memory is killed, who takes more processor time is halted for a part of each period.

Rule 1: a group allows no more than any group around it: the least of them all counts.
Rule 2: what is not there, or cannot be understood, limits nothing.

References
----------
.. [1] Linux, Documentation/admin-guide/cgroup-v2.rst (`memory.max`, `memory.high`, `cpu.max`,
       `cpuset.cpus.effective`) and cgroup-v1/ (`memory.limit_in_bytes`, `cpu.cfs_quota_us`).
.. [2] proc(5), /proc/self/mountinfo; cgroups(7), /proc/self/cgroup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Final

UNIFIED: Final = ""
"""In the place of a controller's name: all of them, in the one hierarchy of version 2."""
_GROUP: Final = re.compile(r"^\d+:([^:]*):(/.*)$", re.MULTILINE)
"""A line of /proc/self/cgroup: the controllers, the group."""
_MOUNT: Final = re.compile(r"^\S+ \S+ \S+ (\S+) (\S+) .*- (cgroup2?) \S* (\S+)$", re.MULTILINE)
"""One of /proc/self/mountinfo: the group that is mounted, where, which version, its options."""


@dataclass(frozen=True)
class Groups:
    """The groups that a process is in.

    Parameters
    ----------
    folders : mapping of str to sequence of Path
        Where the files of its groups lie, its own group first and then those around it, by the
        name of the controller; under `UNIFIED` those of version 2.
    """

    folders: Mapping[str, tuple[Path, ...]]

    @classmethod
    def read(cls, proc: Path = Path("/proc/self")) -> Groups:
        """Find the groups of this process; none where the system knows no such thing."""
        return cls(group_folders(_read(proc / "cgroup"), _read(proc / "mountinfo")))

    def memory_bytes(self) -> int | None:
        """Return what all processes of the groups may take together; None without a limit.

        Above `memory.high` nobody is killed, but all are halted until enough was taken away.
        """
        limits = [
            *self._numbers(UNIFIED, "memory.max"),
            *self._numbers(UNIFIED, "memory.high"),
            *self._numbers("memory", "memory.limit_in_bytes"),
        ]
        return min(limits, default=None)

    def n_processors(self) -> int | None:
        """Return how many processors' worth of time they may take; None without a limit.

        A part of one counts as one: two processes in a group of 1.5 get more done than one does.
        """
        limits = [
            *map(n_listed, self._texts(UNIFIED, "cpuset.cpus.effective")),
            *map(n_listed, self._texts("cpuset", "cpuset.effective_cpus")),
            *map(n_by_quota, self._texts(UNIFIED, "cpu.max")),
            *map(n_by_quota, self._texts("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us")),
        ]
        return min((limit for limit in limits if limit is not None), default=None)

    def _numbers(self, controller: str, name: str) -> Iterator[int]:
        for text in self._texts(controller, name):
            if text.isdecimal():  # else it is "max", or not there
                yield int(text)

    def _texts(self, controller: str, *names: str) -> Iterator[str]:
        """Read files of each group; several are as one, a space between them."""
        for folder in self.folders.get(controller, ()):
            yield " ".join(_read(folder / name).strip() for name in names)


def group_folders(cgroup: str, mountinfo: str) -> dict[str, tuple[Path, ...]]:
    """Return where the files of a process's groups lie. Pure.

    Parameters
    ----------
    cgroup, mountinfo : str
        What the files of these names in ``/proc/self`` hold.
    """
    groups = {
        controller: PurePosixPath(path)
        for controllers, path in _GROUP.findall(cgroup)
        for controller in controllers.split(",")  # "" for the hierarchy of version 2
    }
    folders: dict[str, tuple[Path, ...]] = {}
    for root, point, kind, options in _MOUNT.findall(mountinfo):
        for controller in [UNIFIED] if kind == "cgroup2" else options.split(","):
            if controller in groups:
                above = PurePosixPath(_unescaped(root))
                found = _up_to(Path(_unescaped(point)), above, groups[controller])
                folders.setdefault(controller, found)
    return folders


def n_listed(text: str) -> int | None:
    """Return how many processors a list such as ``0-3,8`` names; None if it names none. Pure."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        return None
    pieces = [[int(number) for number in piece.split("-")] for piece in text.split(",")]
    return sum(piece[-1] - piece[0] + 1 for piece in pieces)


def n_by_quota(text: str) -> int | None:
    """Return how many processors a quota and its period (``150000 100000``) amount to. Pure.

    None where the quota is ``max`` (version 2) or below 0 (version 1): there is none.
    """
    found = re.fullmatch(r"(\d+) (\d+)", text)
    if found is None or int(found[2]) == 0:
        return None
    return max(1, ceil(int(found[1]) / int(found[2])))


def _up_to(point: Path, root: PurePosixPath, group: PurePosixPath) -> tuple[Path, ...]:
    """Return the folders from that of a group up to where its hierarchy is mounted.

    A container may see its own group as if it were the uppermost one, under the name that the group
    has outside (`root`), or a group that is not below what is mounted at all.
    """
    if not group.is_relative_to(root) or ".." in group.parts:
        return (point,)
    inner = group.relative_to(root)
    return tuple(point / each for each in (inner, *inner.parents))


def _unescaped(field: str) -> str:
    """Undo what mountinfo does to blanks: ``\\040``."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # not Linux, another version, or a controller that is not switched on
        return ""
