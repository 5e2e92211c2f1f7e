"""Where a job writes: the run's folders on the driver's machine, or a folder of its own elsewhere.

Rule 1: on the driver's machine files are written where they are to lie: nothing is copied.
Rule 2: on another machine they are written locally, handed over to the master when they are whole,
        and removed: the driver's machine has all there is, whoever dies afterwards.
Rule 3: what a worker that was killed has left elsewhere, the next job there removes.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from typing import Final, Self

from paramserver.mapreduce.files import disk_errors
from paramserver.runtime import relay
from paramserver.runtime.context import current

_FOLDER: Final = re.compile(r"mapreduce-([0-9]+)-.*")
"""Of one attempt, by the number of its process."""


class Workplace:
    """The folder in which one attempt of a job writes its files. A context manager.

    Parameters
    ----------
    folder : str
        The run's, on the driver's machine.

    Attributes
    ----------
    folder : str
        Where to write, on this machine.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._is_here = relay.is_here(folder)

    def path_for(self, folder: str, name: str) -> str:
        """Return where to write a file that is to lie in a folder of the driver's."""
        return os.path.join(folder if self._is_here else self.folder, name)

    def hand_over(self, path: str, folder: str) -> str:
        """Bring a finished file into a folder of the driver's machine; return its path there."""
        if self._is_here:
            return path
        there = os.path.join(folder, os.path.basename(path))
        relay.send_file(path, there)
        return there

    def __enter__(self) -> Self:
        if not self._is_here:
            scratch = current().scratch_disk
            place = scratch or tempfile.gettempdir()
            with disk_errors(place):
                if scratch:  # the agent's own; elsewhere such a name may be anybody's
                    _sweep(scratch)
                self.folder = tempfile.mkdtemp(prefix=f"mapreduce-{os.getpid()}-", dir=place)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_here:
            shutil.rmtree(self.folder, ignore_errors=True)


def _sweep(scratch: str) -> None:
    """Remove the folders of processes that are no more."""
    import psutil

    with os.scandir(scratch) as entries:
        found = [(entry.path, _FOLDER.fullmatch(entry.name)) for entry in entries]
    for path, name in found:
        if name is not None and not psutil.pid_exists(int(name[1])):
            shutil.rmtree(path, ignore_errors=True)
