"""What a simulated run must show, and the log that it is judged by.

- Every job is settled exactly once; again only if its output was lost and had to be made again.
- A result is the right one, whatever happened on the way.
- A job that must succeed succeeds; every other verdict has its cause in the script or the faults.
- A job that is not pure runs exactly once, as long as no worker was lost, no try failed, and no
  attempt was given up.
- A job of a later phase is granted with the results of all jobs before it, in order.
- No attempt is started twice, or in another life than it was granted to; none that was withdrawn
  is started at all.
- No worker is lost without a cause.
- Nothing is granted to a machine whose worker was accused, also by an agent that came afterwards
  under another name, while another machine could take it.
- The end of an attempt is announced once, of what was granted, and of each result that counted.
- Every message that arrived was handled or counted.
- When nothing is needed any more, the machine remembers nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from paramserver.core.commands import (
    AnnounceAttempt,
    AnnounceWorker,
    AttemptEnd,
    CallService,
    SettleJob,
)
from paramserver.core.events import Arrived
from paramserver.core.jobs import Verdict
from paramserver.core.quarantine import COOL_DOWN_ACCUSED_S
from paramserver.core.roster import MasterLink, WorkerState
from paramserver.protocol.messages import Envelope, GrantInputs, JobGrant, Outcome, Payload
from paramserver.testing.workload import Fate

if TYPE_CHECKING:
    from paramserver.testing.simulated_worker import SimulatedWorker
    from paramserver.testing.simulator import Simulation

KILLED = ("its job", "nobody needs", "accused")
"""How the reasons begin for which the master itself ends a worker."""
DISCARDS = ("repeated", "gap", "unknown", "fenced", "unauthenticated")
"""Counters of messages that are not handed on."""


class RunLog:
    """What the oracles need to know of a run."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.settles: defaultdict[int, list[SettleJob]] = defaultdict(list)
        self.n_started: Counter[int] = Counter()
        self.n_raised: Counter[int] = Counter()
        """Tries that ended in the script's exception."""
        self.n_errors: Counter[int] = Counter()
        """Tries that ended badly for any reason."""
        self.n_lives_lost: Counter[int] = Counter()
        """Workers lost that were running the job, or may have been."""
        self.ran_at_death: dict[int, int] = {}
        """The job (or 0) that a process was running when it died, by pid, if its agent tells."""
        self._started: set[tuple[int, int, int]] = set()
        self._granted: set[tuple[int, int]] = set()
        self._granted_to: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
        """Attempts by life."""
        self._ahead: defaultdict[tuple[int, int, int], tuple[Payload, ...]] = defaultdict(tuple)
        """Inputs sent ahead of their grant, by life and attempt."""
        self._pids: dict[int, int] = {}
        self._homes: dict[int, tuple[str, str]] = {}
        """Address and agent of each life."""
        self._accused: dict[str, tuple[float, set[str]]] = {}
        """Until when a machine is left alone at least, by its address, and the other agents that
        were there then."""
        self.losses: Counter[str] = Counter()
        """Workers lost, by the reason that the master gave."""
        self._calls: set[tuple[int, int]] = set()
        self._attempted: dict[tuple[int, int], AttemptEnd] = {}
        """How attempts ended, as it was announced."""

    @property
    def n_settled(self) -> int:
        """Jobs that came to an end."""
        return len(self.settles)

    def n_accounted(self, link: MasterLink | None) -> int:
        """Count what was taken in by a link, and what was discarded for any reason."""
        counters = self._sim.master.machine.counters
        n_taken_in = 0 if link is None else link.ack + link.n_early
        return n_taken_in + sum(counters[reason] for reason in DISCARDS)

    def arrived(self, event: Arrived, link: MasterLink | None, n_before: int) -> None:
        """A message was handled: it has moved something, or it was counted."""
        if event.envelope.seq:
            n_after = self.n_accounted(link)
            assert n_after > n_before, f"dropped without being counted: {event.message}"

    def sent_ahead(self, envelope: Envelope, message: GrantInputs) -> None:
        """Some inputs of a grant leave the master ahead of it."""
        key = (envelope.incarnation, envelope.seq)
        if key not in self._granted:
            self._granted.add(key)
            self._ahead[envelope.incarnation, message.job, message.attempt] += message.inputs

    def granted(self, envelope: Envelope, grants: tuple[JobGrant, ...]) -> None:
        """A grant leaves the master: its inputs must be whole, unless it is said again."""
        key = (envelope.incarnation, envelope.seq)
        if key in self._granted:
            return
        self._granted.add(key)
        self._judge_trust(envelope.incarnation)
        results = self._sim.owner.results
        for grant in grants:
            self._granted_to[envelope.incarnation].add(grant[:2])
            makers = self._sim.workload.makers(grant.job)
            expected = tuple(results.get(maker.job) for maker in makers)
            inputs = self._ahead.pop((envelope.incarnation, *grant[:2]), ()) + grant.inputs
            assert inputs == expected, f"job {grant.job} is granted with wrong inputs"

    def _judge_trust(self, life: int) -> None:
        """A life is granted something: its machine is not in quarantine, or all of them are."""
        now, machine = self._sim.now, self._sim.master.machine
        address, agent_id = self._homes[life]
        until, bystanders = self._accused.get(address, (0.0, set()))
        if until <= now or agent_id in bystanders:
            return
        others = [
            worker.worker_id
            for worker in machine.roster.workers.values()
            if worker.state is WorkerState.READY and worker.agent.standing.quarantined_until <= now
        ]
        assert not others, f"life {life} was granted a job instead of {others}, though accused"

    def started(self, worker: SimulatedWorker, grant: JobGrant) -> None:
        """A worker begins to run an attempt."""
        self._sim.note(worker.name, "begins", grant[:2])
        key = (worker.pid, grant.job, grant.attempt)
        assert key not in self._started, f"attempt {grant[:2]} is started twice by {worker.name}"
        self._started.add(key)
        life = worker.life.session.incarnation
        assert grant[:2] in self._granted_to[life], f"{grant[:2]} is none of life {life}"
        self.n_started[grant.job] += 1

    def ended(self, worker: SimulatedWorker, grant: JobGrant, outcome: Outcome) -> None:
        """A worker has run an attempt to its end."""
        self._sim.note(worker.name, "ends", grant[:2], outcome.name)
        if outcome is not Outcome.OK:
            self.n_errors[grant.job] += 1

    def called(self, command: CallService) -> None:
        """A call of a running job has come to a service."""
        key = (command.incarnation, command.call)
        assert key not in self._calls, f"call {key} came twice"
        self._calls.add(key)

    def attempted(self, news: AnnounceAttempt) -> None:
        """The end of an attempt is announced."""
        key = (news.job, news.number)
        assert key not in self._attempted, f"the end of attempt {key} is announced twice"
        assert any(key in granted for granted in self._granted_to.values()), f"{key} is nobody's"
        assert news.begun <= news.ended <= self._sim.now
        self._attempted[key] = news.end

    def settled(self, ended: SettleJob) -> None:
        """A job has come to an end."""
        workload = self._sim.workload
        before = self.settles[ended.job]
        if before:
            phase = workload.phase_of[ended.job].spec
            assert before[-1].verdict is Verdict.SUCCEEDED, f"job {ended.job} is settled twice"
            assert phase.keep, f"job {ended.job} is settled twice"
            was = before[-1].payload
            assert was is not None
            assert bytes(was.data) in self._sim.lost_outputs, (
                f"job {ended.job} is run again in vain"
            )
        before.append(ended)
        if ended.verdict is Verdict.SUCCEEDED:
            assert ended.payload is not None
            ends = [self._attempted.get((ended.job, k + 1)) for k in range(ended.attempts)]
            assert ends.count(AttemptEnd.DONE) == len(before), f"job {ended.job}: {ends}"
            answer = bytes(ended.payload.data).split(b"@")[0]
            assert answer == workload.answers[ended.job], f"job {ended.job} has a wrong result"

    def announced(self, command: AnnounceWorker) -> None:
        """A worker has come or gone."""
        life, reason = command.incarnation, command.reason
        if command.change == "joined":
            worker = self._sim.master.machine.roster.by_incarnation[life]
            self._pids[life] = worker.pid
            self._homes[life] = (self._sim.addresses[worker.pid], worker.agent.agent_id)
        elif command.change == "lost":
            address, agent_id = self._homes[life]
            if reason == "accused" and address:
                others = set(self._sim.master.machine.roster.agents) - {agent_id}
                self._accused[address] = (self._sim.now + COOL_DOWN_ACCUSED_S, others)
            self.losses[reason.split(" (")[0]] += 1
            if reason.startswith(("signal", "exit code")):
                self.n_lives_lost[self.ran_at_death[self._pids[life]]] += 1
            else:
                self.n_lives_lost.update({job for job, _ in self._granted_to[life]})


def judge_results(sim: Simulation) -> None:
    """Judge every verdict, and how often jobs ran."""
    counters = sim.master.machine.counters
    _judge_losses(sim)
    nothing_lost = not (counters["workers_lost"] or counters["timeouts"] or counters["given_up"])
    for number, script in sim.workload.scripts.items():
        last = sim.log.settles[number][-1]
        _judge_verdict(sim, number, last)
        n_started = sim.log.n_started[number]
        options = sim.workload.phase_of[number].spec.options
        if number in sim.owner.withdrawn and last.verdict is Verdict.CANCELLED:
            if sim.owner.n_withdrawn and number not in sim.owner.cancelled:
                assert not n_started, f"job {number} was withdrawn and ran"
        elif not options.pure and nothing_lost and not sim.log.n_errors[number]:
            if last.verdict is Verdict.SUCCEEDED and len(sim.log.settles[number]) == 1:
                assert n_started == 1, f"job {number} is not pure and ran {n_started} times"
            assert n_started <= len(sim.log.settles[number]), f"job {number} ran {n_started} times"
        if last.verdict is Verdict.SUCCEEDED:
            assert script.fate is Fate.GOOD
            assert n_started >= 1


def _judge_verdict(sim: Simulation, number: int, last: SettleJob) -> None:
    script = sim.workload.scripts[number]
    phase = sim.workload.phase_of[number].spec
    options, log, owner = phase.options, sim.log, sim.owner
    verdict = last.verdict
    match verdict:
        case Verdict.SUCCEEDED:
            return
        case Verdict.CANCELLED:
            makers = sim.workload.makers(number)
            has_cause = (
                number in owner.cancelled
                or number in owner.withdrawn
                or any(log.settles[m.job][-1].verdict is not Verdict.SUCCEEDED for m in makers)
            )
        case Verdict.ERROR:
            limit = options.max_failures
            has_cause = log.n_errors[number] >= limit and script.fate is Fate.RAISES
            has_cause = has_cause or (bool(sim.lost_outputs) and phase.after is not None)
        case Verdict.POISON:
            has_cause = log.n_lives_lost[number] >= options.max_lost
        case Verdict.TIMEOUT:
            has_cause = options.timeout_s is not None or options.lease_s is not None
            has_cause = has_cause and (script.fate is not Fate.GOOD or not sim.faults.is_quiet)
        case Verdict.NO_WORKERS:
            has_cause = not sim.faults.is_quiet
    assert has_cause, f"job {number} ended as {verdict.name} without a cause: {script}, {options}"


def _judge_losses(sim: Simulation) -> None:
    faults, losses = sim.faults, sim.log.losses
    silences = faults.n_disconnects + faults.n_stops + faults.n_partitions + faults.n_pauses
    deaths = (
        faults.n_crashes + faults.n_agent_crashes + faults.all_die + (faults.crash_at is not None)
    )
    deaths += faults.n_evicted + faults.n_retired
    has_poison = any(script.fate is Fate.KILLS for script in sim.workload.scripts.values())
    if not (silences or deaths or has_poison):
        by_itself = {reason: n for reason, n in losses.items() if not reason.startswith(KILLED)}
        if losses != by_itself:  # an order to kill that comes late may find the next life
            by_itself.pop("signal 9", None)
            if faults.same_name:  # ... whose successor may be there before its death is known
                by_itself.pop("replaced by a newer life", None)
        assert not by_itself, f"workers were lost without a cause: {by_itself}"
    if not (silences or faults.same_name or faults.is_noisy):
        assert "replaced by a newer life" not in losses, "nobody else had the name"


def judge_end(sim: Simulation) -> None:
    """Judge that all messages are accounted for, and that nothing is remembered in vain."""
    machine = sim.master.machine
    roster = machine.roster
    machine.check()
    kept = machine.backlog.remembered()
    assert not kept, f"the backlog remembers what nobody needs: {kept}"
    for worker in roster.workers.values():
        assert not worker.held
