"""Why the workers of an agent do not come up, as far as that is known. It starts and kills nothing.

Rule 1: one that dies on its way up is bad luck. Workers cannot be launched when that is hopeless
        (`core.restarts`), or when an initializer has raised: it would raise again.
Rule 2: who comes up heals it, but for who was on the way before an initializer raised.
"""

from __future__ import annotations

import errno

from paramserver.errors import InitializerFailed, LaunchFailed
from paramserver.protocol.messages import ProcessExited


class LaunchTrouble:
    """What goes wrong with the starts of one agent's workers.

    Parameters
    ----------
    agent_id : str

    Attributes
    ----------
    failure : LaunchFailed or None
        Why workers cannot be launched; any thread may look.
    said : str
        Why the latest one could not even be started; '' if it could.
    """

    def __init__(self, agent_id: str) -> None:
        self.failure: LaunchFailed | None = None
        self.said = ""
        self._agent_id = agent_id
        self._n_in_doubt = 0
        """Workers that were on their way before an initializer raised."""

    def started(self) -> None:
        """Take in that a process could be started."""
        self.said = ""

    def not_started(self, error: OSError, *, is_hopeless: bool) -> str:
        """Take in that no process could be started; return what is to be said, if it is new."""
        words = f"{type(error).__name__}: {error}{_remedy(error)}"
        if is_hopeless:
            self._give_up("could not be started", None, words)
        is_new, self.said = words != self.said, words
        return f"agent {self._agent_id} cannot start a worker: {words}" if is_new else ""

    def ended(self, exited: ProcessExited, *, is_hopeless: bool) -> None:
        """Take in that a process has ended which nobody had told to."""
        if is_hopeless:
            self._give_up(f"ended with {exited.exit_code}", exited.exit_code, exited.stderr_tail)

    def not_initialized(self, exited: ProcessExited, n_started: int) -> None:
        """Take in that an initializer has raised, when so many workers have been started."""
        self._n_in_doubt = n_started
        self.failure = InitializerFailed(
            f"The initializer of the workers has raised, in worker {exited.worker_id}. What it "
            f"wrote at last:\n{exited.stderr_tail}",
            exit_code=exited.exit_code,
            stderr_tail=exited.stderr_tail,
        )

    def came_up(self, number: int) -> None:
        """Take in that a worker has come up: the so-and-so-many-th of this agent, from 0."""
        if number >= self._n_in_doubt:
            self.failure = None

    def _give_up(self, how: str, exit_code: int | None, stderr_tail: str) -> None:
        self.failure = LaunchFailed(
            f"No worker of agent {self._agent_id} has come up; the last one {how}. "
            f"Its last words:\n{stderr_tail}",
            exit_code=exit_code,
            stderr_tail=stderr_tail,
        )


def _remedy(error: OSError) -> str:
    """Say what helps where a process cannot be started for want of something."""
    match error.errno:
        case errno.EMFILE | errno.ENFILE:
            return ". Allow more open files (`ulimit -n 4096`), or start fewer workers"
        case errno.EAGAIN:
            return ". Allow more processes (`ulimit -u`), or start fewer workers"
        case errno.ENOMEM:
            return ". Start fewer workers, or end what uses the memory"
    return ""
