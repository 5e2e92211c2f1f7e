"""Something a thread wants to know of the master's machine, and how it gets its answer.

Rule: whoever asks is always answered: by the I/O thread, or by a refusal when that has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from paramserver.core.master import MasterMachine
from paramserver.errors import ClusterClosed

T = TypeVar("T")


class Question(Generic[T]):
    """One question, and the future of its answer.

    Parameters
    ----------
    question : callable
        Looks at the machine; what it raises belongs to who asked.
    """

    def __init__(self, question: Callable[[MasterMachine], T]) -> None:
        self.answer: Future[T] = Future()
        self._question = question

    def put_to(self, machine: MasterMachine) -> None:
        """Answer it; on the I/O thread."""
        try:
            self.answer.set_result(self._question(machine))
        except Exception as error:  # noqa: BLE001 - it belongs to who asked
            self.answer.set_exception(error)

    def refuse(self, failure: BaseException | None) -> None:
        """Say that nobody will answer any more, because of `failure` if there was one."""
        problem = ClusterClosed("The cluster has been shut down.")
        problem.__cause__ = failure
        self.answer.set_exception(problem)
