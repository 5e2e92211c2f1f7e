"""The parent of one machine's workers: starts them, learns of their end at once, leaves no orphan.

Rule 1: one long-lived thread spawns and reaps. The kernel ties the life of the children to the
        *thread* that made them, so this thread outlives them all.
Rule 2: other threads only ask; what they ask for is done on the agent's thread, in their order.
Rule 3: when to replace whom is decided in `core.restarts`; here it is done.
Rule 4: a name is given to one process and never again.
Rule 5: one that is stopped before it has come up is killed and replaced, and that is said.
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from paramserver.core.restarts import RestartPolicy
from paramserver.core.starting import Starting
from paramserver.errors import ClusterClosed, ClusterError, ConfigError, InternalError, LaunchFailed
from paramserver.protocol.messages import ProcessExited
from paramserver.runtime.child_watch import ChildWatch
from paramserver.runtime.launch_trouble import LaunchTrouble
from paramserver.runtime.lifeline import EXIT_NOT_INITIALIZED
from paramserver.runtime.worker_process import Death, WorkerProcess
from paramserver.runtime.worker_spec import WorkerSpec

__all__ = ["Agent", "Death", "WorkerSpec"]

OnExit: TypeAlias = Callable[[ProcessExited, bool], None]

_KILL_WAIT_S = 10.0
"""How long a killed process may take to be gone."""
_LOOK_S = 0.1
"""How soon who waits for the agent's thread notices that it has ended."""
_LAST_WORDS_S = 1.0
"""How long a closing agent waits for a terminal to take what the workers wrote."""
_N_DEATHS_KEPT = 64
_HALTED = "it was stopped (SIGSTOP) before it had come up"


class Agent:
    """Keeps workers alive on this machine.

    Parameters
    ----------
    agent_id : str
        Name of the agent; its workers are called ``f"{agent_id}-{k}"``, k = 0, 1, 2, ...
    spec : WorkerSpec
        What to start.
    on_exit : callable
        Called as ``on_exit(exited, expected)`` on the agent's thread for each process that ends;
        `expected` says that it was retired or that the agent is closing. Must not block.
    policy : RestartPolicy, optional
        When to replace lost workers.

    Attributes
    ----------
    token : str
        The secret in the configuration of each child, by which the master knows them.

    Notes
    -----
    All methods may be called from any thread. Nothing is started before `scale`.
    """

    def __init__(
        self,
        agent_id: str,
        spec: WorkerSpec,
        on_exit: OnExit,
        *,
        policy: RestartPolicy | None = None,
    ) -> None:
        self.agent_id = agent_id
        self.spec = spec
        self.token = secrets.token_hex(16)
        self._on_exit = on_exit
        self._policy = policy or RestartPolicy()
        self._processes: dict[str, tuple[WorkerProcess, float]] = {}
        self._starting = Starting()
        self._n_named = 0
        self._deaths: deque[Death] = deque(maxlen=_N_DEATHS_KEPT)
        self._trouble = LaunchTrouble(agent_id)
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._orders: deque[Callable[[], None]] = deque()
        self._is_closed = False
        self._kill_at: float | None = None
        self._thread: threading.Thread | None = None
        self._watch = ChildWatch(self._take_orders, self._bury)

    # --- asked for by other threads --------------------------------------------------------------

    def scale(self, n: int) -> None:
        """Keep `n` workers alive from now on. Fewer than before: retire the ones to go.

        Raises
        ------
        ConfigError
            If `n` is negative.
        ClusterClosed
            After `close`.
        """
        if n < 0:
            raise ConfigError(f"n_workers must be 0 or more, not {n}.", field="n_workers", value=n)
        with self._lock:
            if self._is_closed:
                raise ClusterClosed(f"Agent {self.agent_id} is closed; make a new one.")
            if self._thread is None:
                # A daemon: a program that ends without `close` is not held up, and the kernel
                # ends the children with it.
                self._thread = threading.Thread(
                    target=self._run, name=f"paramserver-agent-{self.agent_id}", daemon=True
                )
                self._thread.start()
        self._order(lambda: self._policy.scale(n, time.monotonic()))

    def catch_up(self) -> None:
        """Wait until the orders given before have been carried out, or the agent has ended."""
        done = threading.Event()
        self._order(done.set)
        thread = self._thread
        while thread is not None and thread.is_alive() and not done.wait(_LOOK_S):
            pass

    def kill(self, worker_id: str, reason: str) -> None:
        """End a worker process now, whatever it does; it is replaced. Unknown names are ignored."""

        def act() -> None:
            if worker_id in self._processes:
                self._processes[worker_id][0].kill(reason)

        self._order(act)

    def retire(self, worker_id: str) -> None:
        """Expect a worker to leave by itself and do not replace it. Unknown names are ignored."""
        self._order(lambda: self._policy.retire(worker_id))

    def note_ready(self, worker_id: str) -> None:
        """Note that this worker has come up and spoken to the master."""
        self._order(lambda: self._note_ready(worker_id))

    def live(self) -> dict[str, int]:
        """Return the pid of each process that has not been reaped, by worker."""
        with self._lock:
            return {name: process.pid for name, (process, _) in self._processes.items()}

    def tell_if_stopped(self, worker_id: str) -> None:
        """Say on standard error that a worker which was given up is stopped, if it is."""

        def act() -> None:
            process, _ = self._processes.get(worker_id, (None, 0.0))
            if process is not None and not process.is_killed and self._is_halted(worker_id):
                pid = process.pid
                self._watch.say(
                    f"worker {worker_id} (process {pid}) is stopped (SIGSTOP): what it held was "
                    f"given to others. To let it work on: kill -CONT {pid}; to have it replaced: "
                    f"kill -KILL {pid}"
                )

        self._order(act)

    def starting(self) -> dict[str, int]:
        """Return the pid of each process that has not come up yet, by worker."""
        return {name: pid for name, pid in self.live().items() if name in self._starting}

    def is_stopped(self, worker_id: str) -> bool:
        """Say whether a worker process is held by SIGSTOP or by a debugger."""
        with self._lock:
            found = self._processes.get(worker_id)
        return found is not None and found[0].is_stopped()

    def launch_failure(self) -> LaunchFailed | None:
        """Return why workers cannot be launched: several died before any was ever ready, or an
        initializer raised and no worker that was started afterwards has come up.
        """
        return self._trouble.failure

    def death(self, worker_id: str) -> Death | None:
        """Return all that is known of the end of a worker, if it was one of the last 64."""
        with self._lock:
            return next((d for d in self._deaths if d.exited.worker_id == worker_id), None)

    def wind_down(self, grace_s: float, *, ask: bool) -> None:
        """Begin what `close` does, without waiting for the end of it. May be called again.

        Parameters
        ----------
        grace_s : float
            After this the workers that are left are killed.
        ask : bool
            Tell the workers to leave (by SIGTERM); otherwise the master sees to that.
        """
        with self._lock:
            if self._thread is None:
                return
            self._is_closed = True
        self._order(lambda: self._begin_close(grace_s, ask=ask))

    def close(self, grace_s: float = 0.0) -> None:
        """Replace nobody any more, give all until `grace_s` to leave, then kill those left.

        Returns when every child is reaped and the thread has ended. May be called again, also to
        shorten the grace time of a call that was interrupted.

        Raises
        ------
        ClusterError
            If a killed process does not end (it hangs in the kernel, on a dead file system, say).
        InternalError
            If the agent's thread had ended by an error of its own; its children are dead.
        """
        if threading.current_thread() is self._thread:
            raise InternalError("The agent's own thread cannot close the agent.")
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
            thread = self._thread
        if thread is None:
            if not was_closed:
                self._watch.close()
            return
        self._order(lambda: self._begin_close(grace_s, ask=False))
        thread.join(grace_s + _KILL_WAIT_S)
        if thread.is_alive():
            pids = sorted(self.live().values())
            raise ClusterError(f"Processes {pids} do not end though they were killed: see `ps`.")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise InternalError(f"The agent's thread has failed: {failure!r}") from failure

    # --- done on the agent's thread --------------------------------------------------------------

    def _order(self, act: Callable[[], None]) -> None:
        self._orders.append(act)
        self._watch.ring()

    def _run(self) -> None:
        try:
            while not self._is_done():
                now = time.monotonic()
                if self._kill_at is not None and now >= self._kill_at:
                    self._kill_at = None
                    self._kill_all("the agent closes")
                elif self._policy.due(now):
                    self._start_one()  # one a turn, so that a hundred starts hide no death
                self._give_up_the_halted(now)
                self._watch.wait(self._next_deadline())
            self._watch.finish(_LAST_WORDS_S)
        except BaseException as error:
            # Nobody watches the children without this thread, and the kernel ends them with it.
            self._failure = error
            self._kill_all("the agent has failed")
            for process, _ in list(self._processes.values()):
                self._bury(process)
            raise
        finally:
            self._watch.close()

    def _kill_all(self, reason: str) -> None:
        for process, _ in self._processes.values():
            process.kill(reason)

    def _is_done(self) -> bool:
        return self._is_closed and not self._processes and not self._orders

    def _begin_close(self, grace_s: float, *, ask: bool) -> None:
        now = time.monotonic()
        self._policy.scale(0, now)
        for worker_id, (process, _) in self._processes.items():
            self._policy.retire(worker_id)
            if ask:
                process.ask_to_leave()
        self._kill_at = now + grace_s

    def _next_deadline(self) -> float | None:
        ends = (self._policy.next_deadline(), self._kill_at, self._starting.next_look())
        return min((end for end in ends if end is not None), default=None)

    def _take_orders(self) -> None:
        while self._orders:
            self._orders.popleft()()

    def _start_one(self) -> None:
        worker_id = f"{self.agent_id}-{self._n_named}"
        self._n_named += 1
        try:
            process = WorkerProcess(worker_id, self.agent_id, self.token, self.spec)
        except OSError as error:
            self._policy.start_failed(time.monotonic())
            hopeless = self._policy.launch_is_hopeless
            if words := self._trouble.not_started(error, is_hopeless=hopeless):
                self._watch.say(words)
            return
        self._trouble.started()
        now = time.monotonic()
        self._policy.started(worker_id, now)
        self._starting.begin(worker_id, now)
        with self._lock:
            self._processes[worker_id] = (process, now)
        self._watch.add(process)

    def _give_up_the_halted(self, now: float) -> None:
        for worker_id in self._starting.look(now, self._is_halted):
            process, _ = self._processes[worker_id]
            self._watch.say(f"worker {worker_id} (process {process.pid}) is replaced: {_HALTED}")
            process.kill(_HALTED)

    def _is_halted(self, worker_id: str) -> bool:
        return self._processes[worker_id][0].is_stopped(by_debugger=False)

    def _bury(self, process: WorkerProcess) -> None:
        now = time.monotonic()
        started = self._processes[process.worker_id][1]
        death = self._watch.remove(process, now - started)
        was_starting = self._starting.end(process.worker_id)
        was_halted = death.killed_for == _HALTED
        # Who else was killed on purpose had a useful life: that is no crash loop.
        n_ended = max(1, death.n_ended) if death.killed_for and not was_halted else death.n_ended
        raised = was_starting and death.exited.exit_code == EXIT_NOT_INITIALIZED
        if raised and not self._policy.was_ever_ready:
            self._policy.scale(0, now)  # it would raise in all others as well
        expected = self._policy.exited(process.worker_id, now, n_ended, was_halted=was_halted)
        if raised:
            self._trouble.not_initialized(death.exited, self._n_named)
        elif not expected:
            hopeless = self._policy.launch_is_hopeless
            self._trouble.ended(death.exited, is_hopeless=hopeless)
        with self._lock:
            del self._processes[process.worker_id]
            self._deaths.append(death)
        try:
            self._on_exit(death.exited, expected)
        except Exception:  # noqa: BLE001 - a caller's bug must not end the watch over its workers
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), self._thread)))

    def _note_ready(self, worker_id: str) -> None:
        self._starting.end(worker_id)
        self._policy.ready()
        self._trouble.came_up(number_of(worker_id))


def number_of(worker_id: str) -> int:
    """Return which one of its agent's workers this is, counted from 0."""
    return int(worker_id.rpartition("-")[2])
