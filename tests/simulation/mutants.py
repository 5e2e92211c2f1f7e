"""Known bugs, put into a copy of the core one at a time: does the suite notice each of them?

    python tests/simulation/mutants.py [NAME...] [--list]

Each mutant would lose, double, spoil or hang a job. Its edits must apply, or the table is out of
date. The tests of `tests/unit/core` and a part of the simulation run against the copy; the table
says which of the two noticed, and after how long. Exit code 1 when a mutant goes unnoticed by both.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120
RANDOM = "tests/simulation/test_random_runs.py::test_whatever_happens_"
SUITES = {
    "unit": ["tests/unit/core"],
    "simulation": [
        "tests/simulation/test_main_job.py",
        "tests/simulation/test_random_runs.py",
        "--deselect=tests/simulation/test_main_job.py::test_a_worker_may_crash_at_every_event",
        *(f"--deselect={RANDOM}every_job_is_settled_once_and_rightly[{n}]" for n in range(2, 18)),
        *(f"--deselect={RANDOM}a_job_without_a_flaw_succeeds[{n}]" for n in range(1, 5)),
    ],
}
COPIED = ["paramserver", "tests", "pyproject.toml"]


class Mutant(NamedTuple):
    """One bug: a file of `paramserver/core`, what stands there, and what stands there instead."""

    name: str
    consequence: str
    file: str
    old: str
    new: str


MUTANTS = [
    Mutant(
        "an attempt that came second is announced as the one that counted",
        "shown twice",
        "attempt_news.py",
        "        if attempt not in attempt.job.attempts:\n"
        "            self._tell(now, worker, attempt, AttemptEnd.UNNEEDED, out)\n"
        "        elif result.outcome is Outcome.OK:\n",
        "        if result.outcome is Outcome.OK:\n",
    ),
    Mutant(
        "the loss of a worker is not charged to a job that it had been given up for",
        "a job that kills every worker unseen is tried for ever",
        "scheduler.py",
        "attempt.key == running and _counts(attempt):\n",
        "attempt.key == running and attempt in attempt.job.attempts:\n",
    ),
    Mutant(
        "the jobs of a dead worker are not queued again",
        "lost",
        "scheduler.py",
        "                self.charges.loss(worker, attempt, loss, out)\n"
        "            self._release(attempt, out)\n",
        "                self.charges.loss(worker, attempt, loss, out)\n",
    ),
    Mutant(
        "a late result of a former life is accepted",
        "doubled",
        "master.py",
        "            or envelope.incarnation != member.incarnation\n",
        "",
    ),
    Mutant(
        "a result is accepted from whoever sends it",
        "doubled",
        "scheduler.py",
        "        if attempt not in job.attempts:\n"
        '            self.counters["duplicate"] += 1\n'
        "            return\n",
        "        if job.state >= JobState.SUCCEEDED:\n            return\n",
    ),
    Mutant(
        "a machine whose worker was expelled is trusted as before",
        "spoiled",
        "departures.py",
        "        self._roster.standings.note_accused(worker.agent.standing, now)\n",
        "",
    ),
    Mutant(
        "an accused machine is trusted again once its agent has another name",
        "spoiled",
        "quarantine.py",
        "            standing.quarantined_until = former.quarantined_until\n",
        "",
    ),
    Mutant(
        "who asks and never takes an answer in is served for ever",
        "memory without end",
        "service_calls.py",
        "        if self._n_open(worker) > OPEN_MAX:\n",
        "        if worker.n_unanswered > OPEN_MAX:\n",
    ),
    Mutant(
        "a repeated message is taken in again",
        "doubled",
        "link.py",
        "            self.n_repeated += 1\n",
        "            self.n_repeated += 1\n            return (message,)\n",
    ),
    Mutant(
        "a message that comes too early is forgotten",
        "hung",
        "link.py",
        "            self._keep_for_its_turn(seq, message)\n",
        "            self.ack = seq\n            return (message,)\n",
    ),
    Mutant(
        "nothing is ever sent again",
        "hung",
        "link.py",
        "        if self._retransmit_at is None or now < self._retransmit_at:\n",
        "        if True:\n",
    ),
    Mutant(
        "what a new connection lacks is not sent again",
        "hung",
        "link.py",
        "            self._retransmit_at = now\n            self._is_resumed = True\n",
        "            self._retransmit_at = None\n",
    ),
    Mutant(
        "nothing is ever acknowledged by itself",
        "repeated for ever",
        "link.py",
        "        return self._ack_due_at is not None and now >= self._ack_due_at\n",
        "        return False\n",
    ),
    Mutant(
        "the barrier between phases is forgotten",
        "spoilt",
        "jobs.py",
        "        return self.inputs is not None or self.spec.after is None\n",
        "        return True\n",
    ),
    Mutant(
        "only the first job is let through the barrier",
        "hung",
        "backlog.py",
        "                    self.move(job, Step.RELEASE)\n"
        "                    self._queue.add(job)\n"
        "            if dependent.is_empty:\n",
        "                    self.move(job, Step.RELEASE)\n"
        "                    self._queue.add(job)\n"
        "                    break\n"
        "            if dependent.is_empty:\n",
    ),
    Mutant(
        "readers go on with inputs that are lost",
        "spoilt",
        "backlog.py",
        "                dependent.inputs = None\n",
        "                pass\n",
    ),
    Mutant(
        "an output is made again for every reader that misses it",
        "doubled",
        "backlog.py",
        "        if maker.state is not JobState.SUCCEEDED or "
        "maker.result is not attempt.inputs[index]:\n",
        "        if maker.state is not JobState.SUCCEEDED:\n",
    ),
    Mutant(
        "a copy is granted while its inputs are made again",
        "spoilt",
        "idle.py",
        "    return phase.has_inputs and phase.spec.options.pure and",
        "    return phase.spec.options.pure and",
    ),
    Mutant(
        "jobs whose inputs have failed wait for them",
        "hung",
        "backlog.py",
        "        phase.is_doomed = True\n        for job in",
        "        for job in",
    ),
    Mutant(
        "jobs that were given back are charged",
        "failed without cause",
        "scheduler.py",
        "            else:\n"
        "                self._release(attempt, out)\n"
        "        self._start_head(now, worker)\n",
        "            else:\n"
        '                self.charges.loss(worker, attempt, Loss("given back"), out)\n'
        "                self._release(attempt, out)\n"
        "        self._start_head(now, worker)\n",
    ),
    Mutant(
        "a lost worker is never charged to its job",
        "hung",
        "charges.py",
        "        mishaps.n_lost += 1\n",
        "",
    ),
    Mutant(
        "whoever is first in line is charged, though it had not begun",
        "failed without cause",
        "scheduler.py",
        "        if running is None and head is not None:\n",
        "        if head is not None:\n",
    ),
    Mutant(
        "jobs that are not pure get backup copies",
        "doubled",
        "idle.py",
        "        if _may_have_copy(head):\n",
        "        if phase.has_inputs and head.job.attempts == (head,):\n"
        "            limits[phase.spec.phase] = 0.05\n",
    ),
    Mutant(
        "whatever a silent worker holds is run elsewhere, too",
        "doubled",
        "idle.py",
        "        and _may_have_copy(one)\n",
        "        and len(one.job.attempts) == 1\n",
    ),
    Mutant(
        "the result of a second attempt is dropped",
        "hung",
        "scheduler.py",
        '        if attempt not in job.attempts:\n            self.counters["duplicate"] += 1\n',
        "        if attempt.number == 2 or attempt not in job.attempts:\n"
        '            self.counters["duplicate"] += 1\n',
    ),
    Mutant(
        "a settled job is queued again when an attempt of it ends",
        "doubled",
        "scheduler.py",
        "        job = attempt.job\n        if attempt not in job.attempts:\n            return\n",
        "        job = attempt.job\n",
    ),
    Mutant(
        "a job is queued while a copy of it runs",
        "doubled",
        "scheduler.py",
        "        job.drop(attempt)\n"
        "        if not job.attempts:\n"
        "            self._backlog.requeue(job, out)\n"
        "\n"
        "    def _start_head",
        "        job.drop(attempt)\n        self._backlog.requeue(job, out)\n\n    def _start_head",
    ),
    Mutant(
        "a granted job stays in the queue",
        "doubled",
        "ready_queue.py",
        "        self._queues[self._priorities[0]].popleft()\n        self._n_kept -= 1\n",
        "        self._queues[self._priorities[0]].rotate(-1)\n",
    ),
    Mutant(
        "cancelled jobs are granted all the same",
        "run though cancelled",
        "ready_queue.py",
        "                if queue[0].state is _READY:\n",
        "                if True:\n",
    ),
    Mutant(
        "a grant that was withdrawn is sent again",
        "run though cancelled",
        "scheduler.py",
        "            link.amend(partial(_without, keys=keys))\n",
        "            pass\n",
    ),
    Mutant(
        "deadlines are never looked at",
        "hung",
        "deadlines.py",
        "        while heap and heap[0][0] <= now:\n",
        "        while False:\n",
    ),
    Mutant(
        "a job that passes its deadline is not charged",
        "hung",
        "charges.py",
        "        mishaps.n_timeouts += 1\n",
        "",
    ),
    Mutant(
        "suspects are waited for without end",
        "hung",
        "departures.py",
        "            if _due(suspect) > now:\n",
        "            if True:\n",
    ),
    Mutant(
        "a worker that is heard again stays suspect",
        "lost without cause",
        "departures.py",
        "        self._roster.suspects.discard(member)\n"
        "        if type(member) is Worker and member.state is WorkerState.SUSPECT:\n",
        "        member.suspect_until = 1e9\n"
        "        if type(member) is Worker and member.state is WorkerState.SUSPECT:\n",
    ),
    Mutant(
        "a repeated greeting begins another life",
        "lost without cause",
        "admission.py",
        "            elif live.peer == event.peer and not self._gives_up(event.envelope, live):\n",
        "            elif False:\n",
    ),
    Mutant(
        "a new life of a worker is taken for its former one",
        "hung",
        "admission.py",
        "                self._departures.lose(event.now, live, loss, out)\n"
        "                return self._admit(event, hello, agent, out)\n",
        "                self._roster.rebind(live, event.peer)\n"
        "                self._welcome(live, out, resumed=False)\n",
    ),
    Mutant(
        "a pause of the master is blamed on the workers",
        "lost without cause",
        "master.py",
        "        if self._wake_at is not None and now - self._wake_at > LATE_S:\n",
        "        if False:\n",
    ),
    Mutant(
        "jobs wait for ever for workers that do not come",
        "hung",
        "loneliness.py",
        "        elif now - self._since >= self._timeout_s:\n",
        "        elif False:\n",
    ),
    Mutant(
        "inputs that were sent ahead are forgotten",
        "spoilt",
        "worker_life.py",
        "        if not self._inputs:\n            return grants\n",
        "        if self._inputs:\n            return grants\n",
    ),
    Mutant(
        "what is given back is not told",
        "lost",
        "worker_life.py",
        "        if back:\n"
        "            out += self.session.say(now, "
        "JobsReturned(back, draining=bool(self._leaving)))\n",
        "",
    ),
    Mutant(
        "what was given back is run all the same",
        "doubled",
        "worker_life.py",
        "        self.queue = kept\n",
        "",
    ),
    Mutant(
        "a new life goes on with the jobs of the former one",
        "doubled",
        "worker_life.py",
        "        self.queue.clear()\n        self._inputs.clear()\n",
        "        self._inputs.clear()\n",
    ),
    Mutant(
        "a leaving worker keeps what it has not begun",
        "lost",
        "worker_life.py",
        "        out += self.session.say(now, JobsReturned(back, draining=True))\n"
        "        self._leave_if_done(now, out)\n",
        "        out += self.session.say(now, JobsReturned((), draining=True))\n"
        "        self._leave_if_done(now, out)\n",
    ),
    Mutant(
        "results that wait for company are forgotten",
        "lost",
        "worker_life.py",
        "        if self._flush_at is not None and now >= self._flush_at:\n"
        "            self._flush(now, out)\n",
        "        if self._flush_at is not None and now >= self._flush_at:\n"
        "            self._pending.clear()\n"
        "            self._flush(now, out)\n",
    ),
    Mutant(
        "an idle worker never asks whether it is known",
        "worker lost for good",
        "session.py",
        "        if self.link.must_ack(now) or (not out and now >= self._probe_at):\n",
        "        if self.link.must_ack(now):\n",
    ),
    Mutant(
        "a fenced worker never greets again",
        "worker lost for good",
        "session.py",
        "            return self.greet(now, resume=True)\n        return []\n",
        "            self.state = SessionState.OVER\n        return []\n",
    ),
    Mutant(
        "deaths are forgotten with an agent's life",
        "loss noticed late",
        "agent_life.py",
        "                if type(unsaid) is ProcessExited:\n",
        "                if False:\n",
    ),
]


class Verdict(NamedTuple):
    """What one suite said of one mutant."""

    is_caught: bool
    seconds: float
    how: str


def apply(mutant: Mutant, root: Path) -> None:
    """Edit a copy of the package.

    Raises
    ------
    ValueError
        If the text to be replaced is not there exactly once.
    """
    path = root / "paramserver" / "core" / mutant.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise ValueError(
            f"mutant '{mutant.name}' does not apply: its text stands {source.count(mutant.old)} "
            f"times in {mutant.file}"
        )
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")


def try_out(mutant: Mutant | None) -> dict[str, Verdict]:
    """Run both suites against a copy with this bug (or with none)."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        root = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "results", "integration")
                shutil.copytree(source, root / name, ignore=ignored)
            else:
                shutil.copy(source, root / name)
        if mutant is not None:
            apply(mutant, root)
        return {name: _run(root, tests) for name, tests in SUITES.items()}


def _run(root: Path, tests: list[str]) -> Verdict:
    started = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=line"]
    command += ["-p", "no:randomly", "-p", "no:cacheprovider", "-m", "not full", *tests]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return Verdict(True, time.monotonic() - started, f"no end within {LIMIT_S} s")
    seconds = time.monotonic() - started
    if done.returncode == 0:
        return Verdict(False, seconds, "-")
    failed = re.search(r"^(?:FAILED|ERROR) \S+?::(\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or failed is None:
        raise RuntimeError(f"the tests could not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Verdict(True, seconds, failed[1])


def main(arguments: list[str]) -> int:
    """Try all mutants, or those named; print the table."""
    if "--list" in arguments:
        print("\n".join(mutant.name for mutant in MUTANTS))
        return 0
    chosen = [m for m in MUTANTS if not arguments or any(word in m.name for word in arguments)]
    started = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        healthy = pool.submit(try_out, None)
        tried = [pool.submit(try_out, mutant) for mutant in chosen]
        for name, verdict in healthy.result().items():
            if verdict.is_caught:
                print(f"the {name} tests fail without any mutant: {verdict.how}", file=sys.stderr)
                return 1
        n_missed = 0
        print("| bug put in | jobs would be | unit tests | simulation |\n|---|---|---|---|")
        for mutant, future in zip(chosen, tried, strict=True):
            verdicts = future.result()
            n_missed += not any(verdict.is_caught for verdict in verdicts.values())
            cells = " | ".join(map(_cell, verdicts.values()))
            print(f"| {mutant.name} | {mutant.consequence} | {cells} |", flush=True)
    seconds = time.monotonic() - started
    print(f"\n{len(chosen)} bugs, {n_missed} went unnoticed, {seconds:.0f} s")
    return 1 if n_missed else 0


def _cell(verdict: Verdict) -> str:
    if not verdict.is_caught:
        return f"**not noticed** ({verdict.seconds:.0f} s)"
    return f"`{verdict.how}` ({verdict.seconds:.0f} s)"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
