"""What a process does before its first step: import, compile; and that it compiles is told.

Rule 1: what numba finds on the disk is loaded, and nothing is said of it.
Rule 2: numba is imported only where it is going to be used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final

from paramserver.training.learner import Batch
from paramserver.training.plan import TrainingPlan

COMPILING: Final = "kernels are being compiled, once on each machine: that takes some seconds"
"""What users are told."""


def warm_up(plan: TrainingPlan, rows: Batch, tell: Callable[[], object]) -> None:
    """Have the learner of a plan compile, or load, what will train on such rows.

    Parameters
    ----------
    plan : TrainingPlan
    rows : Batch
        Of one partition.
    tell : callable
        Called once if numba begins to compile.
    """
    learner: Any = plan.learner
    names = ("warm_up", "kernel_for") if plan.width is None else ("warm_up_pass", "pass_kernel_for")
    make_warm, kernel_for = (getattr(learner, name, None) for name in names)
    if make_warm is None:
        return
    is_numba = kernel_for is not None and kernel_for(rows, plan.batch_size) == "numba"
    with _compiling_told(tell, is_numba=is_numba):
        make_warm(rows, plan.batch_size)


@contextmanager
def _compiling_told(tell: Callable[[], object], *, is_numba: bool) -> Iterator[None]:
    """Call `tell` when numba begins to compile, at most once."""
    if find_spec("numba") is None or not (is_numba or "numba" in sys.modules):
        yield
        return
    from numba.core import event

    class FirstOne(event.Listener):
        is_told = False

        def on_start(self, _: object) -> None:
            if not self.is_told:
                self.is_told = True
                tell()

        def on_end(self, _: object) -> None:
            pass

    with event.install_listener("numba:compile", FirstOne()):
        yield
