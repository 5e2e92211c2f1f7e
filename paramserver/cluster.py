"""The user's door: a cluster is an executor whose workers may die. No decisions, no loops.

Rule 1: a cluster is ready when its constructor returns.
Rule 2: it owns all it has started, and leaves nothing behind: `shutdown`, the end of the `with`
        block, the end of the interpreter and the death of the process all end it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from paramserver.core.jobs import JobOptions
from paramserver.dashboard.live_page import LivePage
from paramserver.errors import ClusterClosed, ClusterError
from paramserver.executor import JobCounter, JobExecutor
from paramserver.runtime.arguments import job_options, seconds, whole_number
from paramserver.runtime.futures import JobFuture
from paramserver.runtime.internals import Internals
from paramserver.runtime.invitation import room_for_members, worker_command
from paramserver.runtime.job_error import job_error
from paramserver.runtime.parts import ClusterParts
from paramserver.runtime.plan import PhaseCalls
from paramserver.runtime.plan_run import OnProgress, PlanRun
from paramserver.runtime.scratch import Scratch
from paramserver.runtime.status import ClusterStatus, take_status
from paramserver.transport.base import MasterTransport

START_S = 60.0


class Cluster(JobExecutor):
    """A master that listens for workers on other machines.

    It is a `concurrent.futures.Executor`: `submit` and `map` return what the standard library's
    executors return, and lost workers cost a retry, not the pool.

    Parameters
    ----------
    address : str
        Where to listen, ``"tcp://HOST:PORT"``; port 0 lets the system choose (see `address`).
    keys : path
        Folder made by ``paramserver keys DIR``; the workers need a copy of it.
    ship_code : bool, default=False
        Send functions that are in no module as code, to workers started with ``--accept-code``.
        Otherwise functions go by name, and workers must have their module (``--allow PACKAGE``).
    no_workers_timeout_s : float, default=60
        How long jobs wait while nobody is there, before they fail with `NoWorkers`.
    grace_s : float, default=5
        How long a worker whose connection is gone may take to come back, before its work is given
        to others.
    verbose : bool, default=True
        Print the line to start workers with, and what is waited for.

    Raises
    ------
    AuthenticationFailed
        If there are no keys, or others can read them.
    ConfigError
        If the address cannot be used.
    """

    _keys: str | os.PathLike[str] | None = None
    _verbose = False

    def __init__(
        self,
        address: str,
        keys: str | os.PathLike[str] | None = None,
        *,
        ship_code: bool = False,
        no_workers_timeout_s: float = 60.0,
        grace_s: float = 5.0,
        verbose: bool = True,
    ) -> None:
        from paramserver.transport.security import load_master_keys
        from paramserver.transport.zmq_master import ZmqMasterTransport

        no_workers_timeout_s = seconds(no_workers_timeout_s, "no_workers_timeout_s")
        grace_s = seconds(grace_s, "grace_s")
        master_keys = None if keys is None else load_master_keys(keys)
        self._keys, self._verbose = keys, verbose
        scratch = Scratch.create()
        try:
            transport = ZmqMasterTransport.bind(address, master_keys)
        except BaseException:
            scratch.close()
            raise
        self._open(
            scratch,
            transport,
            no_workers_timeout_s,
            ship_code=ship_code,
            grace_s=grace_s,
            max_members=room_for_members(),
        )
        if verbose:
            print(f"Start workers with:  {self.worker_command()}", flush=True)

    def worker_command(self, n_workers: int = 4) -> str:
        """Return the command that starts workers on another machine."""
        return worker_command(self.address, self._keys, n_workers)

    def _open(
        self,
        scratch: Scratch,
        transport: MasterTransport,
        no_workers_timeout_s: float,
        *,
        ship_code: bool = False,
        grace_s: float = 5.0,
        max_members: int | None = None,
    ) -> None:
        parts = self._parts = ClusterParts(
            scratch,
            transport,
            grace_s=grace_s,
            no_workers_timeout_s=no_workers_timeout_s,
            max_members=max_members,
        )
        self._page = LivePage(parts, f"{type(self).__name__} at {parts.address}")
        parts.master.start()
        membership = parts.membership
        super().__init__(
            parts.master,
            JobCounter(),
            JobOptions(),
            trusted=transport.trusted,
            ship_code=ship_code,
            buffersize=None,
            n_workers=lambda: max(1, len(membership)),
        )
        parts.add_owner(self._owner)
        self._on_collect = weakref.finalize(self, parts.finish_aside)
        self._on_collect.atexit = False  # at exit there is `atexit`, which waits

    # --- workers ----------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where the master listens, with the real port."""
        return self._parts.address

    @property
    def trusted(self) -> bool:
        """Whether all workers are inside the local trust domain: anything can be pickled there."""
        return self._trusted

    @property
    def ships_code(self) -> bool:
        """Whether functions may be sent as code to workers outside of the trust domain."""
        return self._ship_code

    @property
    def scratch_folder(self) -> Path:
        """A private folder on this machine that ends with the cluster."""
        return self._parts.scratch.disk

    def share_folder(self, path: str | os.PathLike[str]) -> AbstractContextManager[None]:
        """Let jobs on other machines reach the files of a folder, for the time of a with block.

        They read and write them by `paramserver.runtime.relay`, over their connections.
        """
        return self._parts.relay.share(path)

    @property
    def n_workers(self) -> int:
        """How many workers are there now."""
        return len(self._parts.membership)

    @property
    def n_wanted(self) -> int:
        """How many workers it is to have: who is being replaced counts, where it does that itself.

        What a result depends on goes by this, so that no loss changes it.
        """
        return self.n_workers

    def wait_for_workers(self, n: int, timeout_s: float = START_S) -> None:
        """Wait until `n` workers are there.

        Raises
        ------
        NoWorkers
            If they are not there in time.
        LaunchFailed
            If local workers cannot be started; with the last lines of their standard error.
        """
        n, timeout_s = whole_number(n, "n", 0), seconds(timeout_s, "timeout_s")
        self._check_open()
        self._check_may_wait("wait_for_workers")
        parts = self._parts
        parts.membership.wait_for(n, timeout_s, parts.failure, self._tell_wait, parts.missing)

    def _check_may_wait(self, call: str) -> None:
        if self._master.is_own_thread:
            raise ClusterError(
                f"{call} cannot be called in a callback of a future: that runs on the very thread "
                "that speaks with the workers, so this would wait for ever. Call it from another "
                "thread."
            )

    def _tell_wait(self, n_there: int, n: int) -> None:
        """Say, now and then, what `wait_for_workers` is waiting for."""
        if self._verbose:
            print(
                f"{n_there} of {n} workers are there. Start more with:  {self.worker_command()}",
                flush=True,
            )

    def scale(self, n_workers: int) -> None:
        """Keep so many workers: only where the cluster starts them itself.

        Raises
        ------
        ClusterError
            For workers on other machines, which are started there.
        """
        raise ClusterError(
            f"The workers of the cluster at {self.address} are started on their own machines: type "
            f"there  {self.worker_command(n_workers)}  for more, and stop such a command (Ctrl-C) "
            "for fewer. Running jobs go on, whoever comes or leaves."
        )

    def status(self) -> ClusterStatus:
        """Return workers, jobs by state, and counters, as they are now."""
        master, address = self._parts.master, self.address
        return master.ask(lambda machine: take_status(machine, master.clock(), address))

    @property
    def dashboard_link(self) -> str:
        """Link to the live page of this cluster; the page is served from the first call on.

        It is seen from this machine only; see `open_dashboard` for others. ``metrics`` below it is
        for Prometheus.
        """
        return self.open_dashboard()

    def open_dashboard(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serve a live page of workers, jobs and trainings; return its link.

        Parameters
        ----------
        host : str
            Where to listen; ``"0.0.0.0"`` is seen from other machines, unencrypted, by who has the
            link: its token is a password.
        port : int
            0 lets the system choose.

        Returns
        -------
        str
            That of the page there is, if it has been opened before.

        Raises
        ------
        ConfigError
            If nothing can listen there.
        """
        self._check_open()
        return self._page.open(host, port)

    @property
    def has_dashboard(self) -> bool:
        """Whether somebody could be looking."""
        return self._page.is_open

    def explain(self, future: Future[Any]) -> str:
        """Say in words where the job of a future is and why it is not further, or how it ended.

        Of the jobs that have ended the latest 1,000 are remembered, and 1,000 of those that did not
        succeed at their first try: how often they were tried, where, and what went wrong.
        """
        if not any(owner.made(future) for owner in self._parts.owners()):
            return "That future is none of this cluster's, or its call could not be handed in."
        assert isinstance(future, JobFuture)
        job = future.job
        return self._parts.master.ask(lambda machine: machine.explain(job))

    def run_plan(
        self, phases: Sequence[PhaseCalls], on_progress: OnProgress | None = None
    ) -> list[list[Any]]:
        """Run phases of calls, each after the one before is complete; return all results.

        Parameters
        ----------
        phases : sequence of PhaseCalls
        on_progress : callable, optional
            Called as ``on_progress(name, n_done, n_total)`` on the calling thread.

        Raises
        ------
        Exception
            What the first failed job ended with; the rest is cancelled then.
        ClusterError
            In a callback of a future, where it would wait for ever.
        """
        self._check_open()
        self._check_may_wait("run_plan (a map-reduce, say)")
        run = PlanRun(
            self._master,
            self._numbers.next_job,
            self._numbers.next_phase,
            trusted=self._trusted,
            ship_code=self._ship_code,
            make_error=lambda ended: job_error(ended, trusted=self._trusted),
        )
        return run.run(phases, on_progress)

    def internals(self) -> Internals:
        """Return the parts that the package's own layers build on. Not for users: it may change."""
        return Internals(
            self._master,
            self._numbers.next_job,
            self._numbers.next_phase,
            self._trusted,
            self._parts.scratch.fast,
            lambda: self.n_workers,
            self._parts.panels,
            self._ship_code,
        )

    # --- options ----------------------------------------------------------------------------------

    def with_options(
        self,
        *,
        max_failures: int = 1,
        max_lost: int = 3,
        timeout_s: float | None = None,
        priority: int = 0,
        pure: bool = False,
        buffersize: int | None = None,
    ) -> JobExecutor:
        """Return an executor on the same workers that treats its jobs in another way.

        Parameters
        ----------
        max_failures : int
            Tries of a job that may end in an exception; 1 makes the first one final.
        max_lost : int
            Workers lost under a job until it is taken to be the cause, and fails with `PoisonJob`.
            More where workers are killed whatever they run (machines that may be taken away).
        timeout_s : float, optional
            Deadline of each try, from its start. When it passes, the worker is killed and replaced;
            after the second time the job fails with `JobTimeout`.
        priority : int
            Jobs of higher priority start first.
        pure : bool
            Running a job twice does no harm: stragglers get a backup copy.
        buffersize : int, optional
            For `map`: how many items may be in flight.
        """
        if buffersize is not None:
            buffersize = whole_number(buffersize, "buffersize", 1)
        view = JobExecutor(
            self._master,
            self._numbers,
            job_options(
                max_failures=max_failures,
                max_lost=max_lost,
                timeout_s=timeout_s,
                priority=priority,
                pure=pure,
            ),
            trusted=self._trusted,
            ship_code=self._ship_code,
            buffersize=buffersize,
            n_workers=self._n_workers,
            parent=self,
        )
        self._parts.add_owner(view._owner)
        return view

    def _job_of(self, future: Future[Any]) -> int | None:
        jobs = (owner.job_of(future) for owner in self._parts.owners())
        return next((job for job in jobs if job is not None), None)

    # --- the end ----------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs, finish those there are, and end all workers.

        Parameters
        ----------
        wait : bool
            Return when everything has ended. Otherwise return at once; it ends by itself.
        cancel_futures : bool
            Cancel the jobs that have not started.
        """
        self._on_collect.detach()
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        if not self._master.is_own_process:
            return
        self._withdraw(self._parts.owners(), cancel_futures)
        if wait and not self._master.is_own_thread:
            self._parts.finish()
        else:
            self._parts.finish_aside()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        is_ctrl_c = kind is not None and issubclass(kind, KeyboardInterrupt)
        if is_ctrl_c and self._master.is_own_process and not self._parts.is_closed:
            self._parts.give_up()  # nobody wants to wait
        self.shutdown(wait=True)

    # --- copies -----------------------------------------------------------------------------------
    # A cluster is a parameter of estimators, which are cloned, copied and pickled: there is one of
    # it, and elsewhere there is none.

    def __sklearn_clone__(self) -> Self:
        return self

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:  # type: ignore[override]
        return type(None), ()

    # --- how it looks -----------------------------------------------------------------------------

    def __repr__(self) -> str:
        name = type(self).__name__
        n = self.n_workers
        return f"<{name} at {self.address}: {n} {'worker' if n == 1 else 'workers'}>"

    def _repr_html_(self) -> str:
        try:
            return self.status()._repr_html_()
        except ClusterClosed:
            return f"<p>{type(self).__name__}: closed</p>"
