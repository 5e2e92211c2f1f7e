"""Workers that push what they should not, over a real connection: refused, counted, no harm."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

import paramserver as ps
from paramserver.cluster import Cluster
from paramserver.core.master import MasterMachine
from paramserver.errors import TrainingError
from paramserver.protocol import calls
from paramserver.protocol.messages import (
    Fenced,
    GrantJobs,
    JobGrant,
    JobResult,
    JobsEnded,
    KillProcess,
    Outcome,
    Payload,
    PayloadKind,
    ProcessExited,
    ServiceCall,
    ServiceReply,
)
from paramserver.training.arithmetic import arithmetic_here
from paramserver.training.formats import JOIN, JOINED, REPLY
from paramserver.training.learner import Batch
from paramserver.training.partitioning import cut
from paramserver.training.partitions import Epoch
from paramserver.training.pushes import Verdict
from paramserver.training.run_constants import MachineWarning
from paramserver.training.trust import MAX_STRIKES
from tests.integration.far_worker import FAR_AGENT
from tests.integration.remote import PATIENCE_S, AgentProcess, Puppet, wait_until
from tests.numerics.learners import LeastSquares, Ledger, RowLedger

pytestmark = pytest.mark.usefixtures("no_lending_thread")

N = 4


@pytest.fixture
def cluster(keys: Path) -> Iterator[Cluster]:
    with Cluster("tcp://127.0.0.1:0", keys, grace_s=0.5, verbose=False) as cluster:
        yield cluster


@pytest.fixture
def puppet(cluster: Cluster, keys: Path) -> Iterator[Puppet]:
    with (
        Puppet.join(cluster.address, keys, "p"),
        Puppet.join(cluster.address, keys, "p-0", agent_id="p") as puppet,
    ):
        yield puppet


class Training(threading.Thread):
    """A `fit` on its way."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(name="training")
        self._fit = (args, settings)
        self.outcome: Any = None

    def run(self) -> None:
        args, settings = self._fit
        try:
            self.outcome = ps.fit(*args, **settings)
        except BaseException as error:
            self.outcome = error

    def result(self) -> Any:
        self.join(PATIENCE_S)
        assert not self.is_alive()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class Pusher:
    """A puppet amid a job of a training: it says what the test wants."""

    def __init__(self, puppet: Puppet) -> None:
        self._puppet = puppet
        self._n_calls = 0
        self.take_job()

    def take_job(self) -> None:
        """Wait for a job, and read its arguments; say at once that it is ready if that is asked."""
        self.grant: JobGrant = self._puppet.hear(GrantJobs).grants[0]
        name, args, _ = calls.decode_value(self.grant.payload, trusted=False)
        if name == "paramserver.training.work:make_ready":
            self.end(None)
            self.take_job()
            return
        assert name.startswith("paramserver.training.work:train_")
        self.service, _, self.number, self.partition = args

    def say(self, method: str, body: Payload) -> None:
        self._n_calls += 1
        job, attempt = self.grant.job, self.grant.attempt
        call = ServiceCall(self._n_calls, job, attempt, self.service, method, body)
        self._puppet.say(call)

    def ask(self, method: str, body: Payload) -> ServiceReply:
        self.say(method, body)
        return self._puppet.hear(ServiceReply)

    def join(self) -> int:
        """Join for the partition; return the cursor."""
        asked = JOIN.pack(self.number, self.partition, True)
        reply = self.ask("join", Payload(PayloadKind.PLAIN, asked))
        self.joined = reply.body
        return int(JOINED.unpack(reply.body.data)[2])

    def push(self, *numbers: Any) -> tuple[Verdict, bytes]:
        """Push; return the verdict and the weights that came back."""
        numbers = (*numbers[:4], 0.0, *numbers[4:])  # seconds that it has computed
        reply = self.ask("push_pull", calls.encode_value(numbers, trusted=False))
        return verdict_of(reply)

    def end(self, result: Any) -> None:
        """End the job."""
        payload = calls.encode_value(result, trusted=False)
        # Jobs that take so long are granted one at a time, and none gets a backup copy.
        ended = JobResult(self.grant.job, self.grant.attempt, Outcome.OK, 10**9, payload)
        self._puppet.say(JobsEnded((ended,)))


def verdict_of(reply: ServiceReply) -> tuple[Verdict, bytes]:
    assert reply.ok
    weights = b"".join(bytes(buffer) for buffer in reply.body.buffers)
    return Verdict(REPLY.unpack(reply.body.data)[0]), weights


def numbered(n: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.arange(n)
    return numbers[:, None].astype(np.float64), numbers


def rows_in_order(n: int, seed: int) -> list[int]:
    """Which rows of `numbered` the batches of one hold, for one partition, in the first epoch."""
    (part,) = cut(np.arange(n), 1, "shuffled", seed)
    return part[Epoch(Batch(*numbered(n)), 1, seed, 0, 0).order].tolist()


G = -np.eye(N)[0]

BAD_PUSHES = [
    ("NaN", (1, 0, 0, 1, np.array([np.nan, 0, 0, 0])), Verdict.NONFINITE),
    ("infinity", (1, 0, 0, 1, np.array([0, 0, 0, -np.inf])), Verdict.NONFINITE),
    ("a column", (1, 0, 0, 1, G.reshape(N, 1)), Verdict.MISSHAPEN),
    ("another length", (1, 0, 0, 1, np.zeros(N + 1)), Verdict.MISSHAPEN),
    ("a scalar", (1, 0, 0, 1, np.array(1.0)), Verdict.MISSHAPEN),
    ("float16", (1, 0, 0, 1, G.astype("<f2")), Verdict.MISTYPED),
    ("float32", (1, 0, 0, 1, G.astype("<f4")), Verdict.MISTYPED),
    ("integers", (1, 0, 0, 1, G.astype("<i8")), Verdict.MISTYPED),
    ("complex numbers", (1, 0, 0, 1, G.astype("<c16")), Verdict.MISTYPED),
    ("n_samples -1", (1, 0, 0, -1, G), Verdict.MISCOUNTED),
    ("n_samples 1e9", (1, 0, 0, 10**9, G), Verdict.MISCOUNTED),
    ("the next batch", (1, 1, 0, 1, G), Verdict.GAP),
    ("a batch beyond the end", (1, N, 0, 1, G), Verdict.GAP),
    ("a batch before the first", (1, -1, 0, 1, G), Verdict.DUPLICATE),
    ("a push that comes too early", (2, 0, 0, 1, G), Verdict.GAP),
    ("a version of the future", (1, 0, 1, 1, G), Verdict.MISMATCHED),
    ("a version that never was", (1, 0, -1, 1, G), Verdict.MISMATCHED),
    ("numbers that are none", ("1", 0, 0, 1, G), Verdict.MISMATCHED),
    ("no gradient", (1, 0, 0, 1), Verdict.MISMATCHED),
    ("a list", (1, 0, 0, 1, [0.0] * N), Verdict.MISMATCHED),
    ("rows", (1, 0, 0, 1, np.arange(1), np.ones((1, 1)), np.arange(1)), Verdict.MISMATCHED),
]


def swapped(body: Payload) -> Payload:
    """Say of an array that it is big-endian."""
    assert b"<f8" in body.data
    return Payload(body.kind, bytes(body.data).replace(b"<f8", b">f8"), body.buffers)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is expelled, however bad what it pushes."""
    monkeypatch.setattr("paramserver.training.trust.MAX_STRIKES", 1_000)


@pytest.mark.usefixtures("patient")
def test_bad_pushes_are_refused_and_counted_and_change_no_bit(
    cluster: Cluster, puppet: Puppet
) -> None:
    mode = ps.AsyncSGD(epochs=1, n_partitions=1)
    data = numbered(N)
    training = Training(Ledger(N), data, mode=mode, cluster=cluster, batch_size=1, lr=1.0)
    training.start()
    pusher = Pusher(puppet)
    assert pusher.join() == 0
    before = b"".join(bytes(buffer) for buffer in pusher.joined.buffers)
    assert before == bytes(8 * N)
    for what, numbers, verdict in BAD_PUSHES:
        assert pusher.push(*numbers) == (verdict, before), what
    big_endian = swapped(calls.encode_value((1, 0, 0, 1, 0.0, G), trusted=False))
    assert verdict_of(pusher.ask("push_pull", big_endian)) == (Verdict.MISMATCHED, before)
    pickled = Payload(PayloadKind.PICKLE, calls.encode_value(G, trusted=True).data)
    assert verdict_of(pusher.ask("push_pull", pickled)) == (Verdict.MISMATCHED, before)
    for batch in range(N):
        g = -np.eye(N)[batch]
        numbers = (batch + 1, batch, batch, 1, g)
        verdict, weights = pusher.push(*numbers)
        assert verdict is Verdict.APPLIED
        assert np.frombuffer(weights).tolist() == [1.0] * (batch + 1) + [0.0] * (N - batch - 1)
        assert pusher.push(*numbers)[0] is Verdict.DUPLICATE  # it comes again
    pusher.end((N, 0.0, 0.0))
    result = training.result()
    assert np.array_equal(result.weights, np.ones(N))
    assert result.rejected == {
        "nonfinite": 2,
        "misshapen": 3,
        "mistyped": 4,
        "miscounted": 2,
        "gap": 3,
        "duplicate": 1 + N,
        "mismatched": 8,
    }
    assert result.units == N


BAD_ROWS = [
    ("rows that are not sorted", np.array([1, 0]), np.ones((2, 1)), Verdict.MISPLACED),
    ("a row twice", np.array([1, 1]), np.ones((2, 1)), Verdict.MISPLACED),
    ("a row before the first", np.array([-1, 1]), np.ones((2, 1)), Verdict.MISPLACED),
    ("a row beyond the end", np.array([1, N]), np.ones((2, 1)), Verdict.MISPLACED),
    ("rows of another type", np.array([0, 1], "<i4"), np.ones((2, 1)), Verdict.MISPLACED),
    ("too many values", np.array([0]), np.ones((2, 1)), Verdict.MISSHAPEN),
    ("too wide values", np.array([0]), np.ones((1, 2)), Verdict.MISSHAPEN),
    ("values of another type", np.array([0]), np.ones((1, 1), "<f4"), Verdict.MISTYPED),
    ("NaN", np.array([0]), np.full((1, 1), np.nan), Verdict.NONFINITE),
]


@pytest.mark.usefixtures("patient")
def test_bad_sparse_pushes_and_pulls_change_nothing(cluster: Cluster, puppet: Puppet) -> None:
    X = csr_array((np.ones(N), np.arange(N), np.arange(N + 1)), shape=(N, N))
    mode = ps.AsyncSGD(epochs=1, n_partitions=1)
    data = (X, np.arange(N))
    training = Training(RowLedger(N), data, mode=mode, cluster=cluster, batch_size=1, lr=1.0)
    training.start()
    pusher = Pusher(puppet)
    pusher.join()
    everything, nothing = np.arange(N), np.arange(0)
    untouched = bytes(8 * N)
    for what, rows, values, verdict in BAD_ROWS:
        assert pusher.push(1, 0, 0, 1, rows, values, everything) == (verdict, untouched), what
    for want in (np.array([N]), np.array([-1]), np.array([1, 0]), np.array([0.5])):
        push = (1, 0, 0, 1, np.array([0]), -np.ones((1, 1)), want)
        assert pusher.push(*push) == (Verdict.MISPLACED, b"")
    for batch in range(N):
        push = (batch + 1, batch, batch, 1, np.array([batch]), -np.ones((1, 1)), nothing)
        assert pusher.push(*push) == (Verdict.APPLIED, b"")
    pusher.end((N, 0.0, 0.0))
    result = training.result()
    assert np.array_equal(result.weights, np.ones(N))
    assert result.rejected == {"misplaced": 9, "misshapen": 2, "mistyped": 1, "nonfinite": 1}


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("join", b""),
        ("join", JOIN.pack(0, 1, True)),
        ("join", JOIN.pack(7, 0, True)),
        ("rows", b"\xc1"),
        ("rows", calls.encode_value((99,), trusted=False).data),
        ("piece", calls.encode_value((0, "../../etc/passwd", 0), trusted=False).data),
        ("agree", b""),
        ("agree", calls.encode_value({"blas_threads": 1}, trusted=False).data),
        ("drop_table", b""),
    ],
)
def test_calls_that_make_no_sense_are_refused_in_words(
    cluster: Cluster, puppet: Puppet, method: str, body: bytes
) -> None:
    mode = ps.AsyncSGD(epochs=1, n_partitions=1)
    training = Training(Ledger(1), numbered(1), mode=mode, cluster=cluster, batch_size=1, lr=1.0)
    training.start()
    pusher = Pusher(puppet)
    assert not pusher.ask(method, Payload(PayloadKind.PLAIN, body)).ok
    assert pusher.join() == 0
    assert pusher.push(1, 0, 0, 1, -np.ones(1))[0] is Verdict.APPLIED
    pusher.end((1, 0.0, 0.0))
    assert training.result().weights.tolist() == [1.0]


def test_a_partition_that_is_said_to_be_done_and_is_not_is_handed_out_again(
    cluster: Cluster, puppet: Puppet
) -> None:
    mode = ps.AsyncSGD(epochs=1, n_partitions=1)
    training = Training(Ledger(2), numbered(2), mode=mode, cluster=cluster, batch_size=1, lr=1.0)
    training.start()
    pusher = Pusher(puppet)
    pusher.join()
    pusher.push(1, 0, 0, 1, -np.eye(2)[0])
    pusher.end((2, 0.0, 0.0))
    pusher.take_job()
    assert pusher.join() == 1  # the replacement goes on at the cursor
    pusher.push(2, 1, 1, 1, -np.eye(2)[1])
    pusher.end((1, 0.0, 0.0))
    result = training.result()
    assert np.array_equal(result.weights, np.ones(2))
    assert result.rejected == {"mismatched": 1}


def test_every_third_answer_is_lost_and_no_batch_is(cluster: Cluster, puppet: Puppet) -> None:
    """Who hears nothing joins again: the ledger knows whether the push had come."""
    n = 12
    mode = ps.AsyncSGD(epochs=1, n_partitions=1)
    data = numbered(n)
    training = Training(Ledger(n), data, mode=mode, cluster=cluster, batch_size=1, lr=1.0, seed=3)
    training.start()
    pusher = Pusher(puppet)
    cursor = pusher.join()
    for batch, row in enumerate(rows_in_order(n, seed=3)):
        assert cursor == batch
        _, _, _, last_seq, version, _ = JOINED.unpack(pusher.joined.data)
        push = (last_seq + 1, batch, version, 1, -np.eye(n)[row])
        verdict, _ = pusher.push(*push)
        assert verdict is Verdict.APPLIED
        if batch % 3 == 0:  # as if that had not been heard: it is said again
            assert pusher.push(*push)[0] is Verdict.DUPLICATE
        cursor = pusher.join()
    pusher.end((n, 0.0, 0.0))
    result = training.result()
    assert np.array_equal(result.weights, np.ones(n))
    assert result.rejected == {"duplicate": 4}


def test_a_replacement_goes_on_after_37_of_100_batches(cluster: Cluster, keys: Path) -> None:
    n = 100
    mode = ps.AsyncSGD(epochs=1, n_partitions=1)
    training = Training(
        Ledger(n), numbered(n), mode=mode, cluster=cluster, batch_size=1, lr=1.0, seed=3
    )
    with (
        Puppet.join(cluster.address, keys, "p") as agent,
        Puppet.join(cluster.address, keys, "p-0", agent_id="p") as worker,
    ):
        training.start()
        pusher = Pusher(worker)
        pusher.join()
        for batch, row in enumerate(rows_in_order(n, seed=3)[:37]):
            assert pusher.push(batch + 1, batch, batch, 1, -np.eye(n)[row])[0] is Verdict.APPLIED
        worker.close()
        agent.say(ProcessExited("p-0", 1_000_000, -9, 0, 0, ""))
        wait_until(lambda: cluster.n_workers == 0, "its death is known")
        with AgentProcess(cluster.address, keys, 1, program=("-c", FAR_AGENT)):
            result = training.result()
    assert np.array_equal(result.weights, np.ones(n))
    assert result.units == 100
    n_pushed = {name: c.total() for name, c in result.staleness_by_worker.items()}
    assert n_pushed.pop("p-0") == 37
    assert list(n_pushed.values()) == [63]
    assert result.rejected == {}


BAD_RESULTS = [
    ("nan seconds", (np.zeros(7), float("nan"))),
    ("a column", (np.zeros((7, 1)), 0.0)),
    ("float32", (np.zeros(7, np.float32), 0.0)),
    ("a name", ("w0", 0.0)),
    ("nothing", ("", 0.0)),
    ("a number", 3),
    ("a vector that is not there", ("result0.p-0", 0.0)),
    ("words for seconds", (np.zeros(7), "0.5")),
]


@pytest.mark.parametrize("at", range(0, len(BAD_RESULTS), 2))
def test_a_bad_result_of_a_round_is_not_taken_in(cluster: Cluster, puppet: Puppet, at: int) -> None:
    rng = np.random.default_rng(0)
    data = (rng.standard_normal((9, 7)), rng.standard_normal(9))
    mode = ps.Averaging(rounds=1, n_partitions=1)
    training = Training(LeastSquares(7), data, mode=mode, cluster=cluster, lr=0.1)
    training.start()
    pusher = Pusher(puppet)
    for _, bad in BAD_RESULTS[at : at + 2]:
        pusher.end(bad)
        pusher.take_job()
    pusher.end((np.arange(7.0), 0.0))
    result = training.result()
    assert result.weights.tolist() == list(range(7))
    assert result.rejected == {"mismatched": 2}


def test_a_worker_that_only_gives_back_nonsense_ends_the_training_in_words(
    cluster: Cluster, puppet: Puppet
) -> None:
    mode = ps.Averaging(rounds=1, n_partitions=1)
    training = Training(
        LeastSquares(2), (np.ones((3, 2)), np.ones(3)), mode=mode, cluster=cluster, lr=0.1
    )
    training.start()
    pusher = Pusher(puppet)
    for _ in range(2):
        pusher.end(b"nonsense")
        pusher.take_job()
    pusher.end(b"nonsense")
    with pytest.raises(TrainingError, match="Worker p-0"):
        training.result()


# --- quarantine -----------------------------------------------------------------------------------

BAD = np.zeros(N + 1)


def in_quarantine(cluster: Cluster) -> list[str]:
    """Return the machines that are in quarantine."""

    def look(machine: MasterMachine) -> list[str]:
        now, agents = time.monotonic(), machine.roster.agents.values()
        return [agent.agent_id for agent in agents if agent.standing.quarantined_until > now]

    return cluster.internals().master.ask(look)


def test_who_pushes_garbage_again_and_again_is_expelled_and_its_machine_in_quarantine(
    cluster: Cluster, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mode = ps.AsyncSGD(epochs=1, n_partitions=1)
    data = numbered(N)
    with (
        Puppet.join(cluster.address, keys, "p") as agent,
        Puppet.join(cluster.address, keys, "p-0", agent_id="p") as hostile,
    ):
        training = Training(Ledger(N), data, mode=mode, cluster=cluster, batch_size=1, lr=1.0)
        training.start()
        pusher = Pusher(hostile)
        pusher.join()
        with AgentProcess(cluster.address, keys, 1, program=("-c", FAR_AGENT)):
            cluster.wait_for_workers(2, PATIENCE_S)
            for _ in range(MAX_STRIKES):
                assert pusher.push(1, 0, 0, 1, BAD)[0] is Verdict.MISSHAPEN
            order = agent.hear(KillProcess)
            reason = "it has pushed what is misshapen, and was not as agreed 3 times"
            assert (order.worker_id, order.reason) == ("p-0", reason)
            assert in_quarantine(cluster) == ["p"], "nobody who was there before answers for it"
            with Puppet.join(cluster.address, keys, "q"):
                assert in_quarantine(cluster) == ["p", "q"], "another name clears nobody"
            # Not dead, it goes on, and comes back as a new life: to no avail.
            pusher.say("push_pull", calls.encode_value((1, 0, 0, 1, 0.0, -G), trusted=False))
            assert hostile.hear(Fenced).reason == "unknown: say Hello"
            hostile.greet()
            hostile.until(lambda: hostile.session.incarnation > 2, "it is let in again")
            result = training.result()
        counters = cluster.status().counters
    assert np.array_equal(result.weights, np.ones(N))
    assert result.rejected == {"misshapen": MAX_STRIKES}
    assert "p-0" not in result.staleness_by_worker
    assert result.workers_lost == counters["workers_expelled"] == counters["quarantines"] == 1
    assert caplog.messages == [f"Worker p-0 is expelled, and its machine in quarantine: {reason}."]


def test_who_is_alone_and_pushes_garbage_ends_the_training_in_words(
    cluster: Cluster, puppet: Puppet, tmp_path: Path
) -> None:
    mode = ps.AsyncSGD(epochs=1, n_partitions=1)
    training = Training(
        Ledger(N), numbered(N), mode=mode, cluster=cluster, batch_size=1, lr=1.0,
        checkpoints=ps.Checkpoints(tmp_path),
    )  # fmt: skip
    training.start()
    pusher = Pusher(puppet)
    pusher.join()
    assert pusher.push(1, 0, 0, 1, G)[0] is Verdict.APPLIED
    for _ in range(MAX_STRIKES):
        assert pusher.push(2, 1, 1, 1, BAD)[0] is Verdict.MISSHAPEN
    with pytest.raises(TrainingError, match=r"Worker p-0 is not to be .* no other machine"):
        training.result()
    state = ps.Checkpoints(tmp_path).newest()  # nothing of what counted is lost
    assert state is not None
    assert state.arrays["w"].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_a_bad_result_of_one_worker_again_and_again_costs_that_worker_and_not_the_training(
    cluster: Cluster, keys: Path
) -> None:
    data = (np.ones((9, 7)), np.ones(9))
    mode = ps.Averaging(rounds=1, n_partitions=1)
    with (
        Puppet.join(cluster.address, keys, "p"),
        Puppet.join(cluster.address, keys, "p-0", agent_id="p") as hostile,
    ):
        training = Training(LeastSquares(7), data, mode=mode, cluster=cluster, lr=0.1)
        training.start()
        pusher = Pusher(hostile)
        for _ in range(MAX_STRIKES - 1):
            pusher.end(b"nonsense")
            pusher.take_job()
        with (
            Puppet.join(cluster.address, keys, "q"),
            Puppet.join(cluster.address, keys, "q-0", agent_id="q") as honest,
        ):
            pusher.end(b"nonsense")
            Pusher(honest).end((np.arange(7.0), 0.0))
            result = training.result()
    assert result.weights.tolist() == list(range(7))
    assert result.rejected == {"mismatched": MAX_STRIKES}
    assert result.workers_lost == 1


def test_what_a_worker_computes_otherwise_is_said(cluster: Cluster, puppet: Puppet) -> None:
    mode = ps.Averaging(rounds=1, n_partitions=1)
    training = Training(LeastSquares(2), (np.eye(2), np.ones(2)), mode=mode, cluster=cluster, lr=1)
    training.start()
    pusher = Pusher(puppet)
    here = arithmetic_here()
    for arithmetic in (here, replace(here, numpy="0.9", blas_threads=17)):
        told = calls.encode_value(arithmetic.as_plain(), trusted=False)
        answer = pusher.ask("agree", told)
        assert calls.decode_value(answer.body, trusted=False) == here.blas_threads
    pusher.end((np.zeros(2), 0.0))
    with pytest.raises(MachineWarning, match=f"p-0 .*: numpy is 0.9 instead of {np.__version__}"):
        training.result()


def test_a_worker_that_never_reads_its_weights_holds_nobody_up(
    cluster: Cluster, puppet: Puppet, keys: Path
) -> None:
    n = 150_000  # 1.2 MB a pull
    X, y = np.zeros((40, 1)), np.arange(40)
    mode = ps.AsyncSGD(epochs=1, n_partitions=2)
    training = Training(Ledger(n), (X, y), mode=mode, cluster=cluster, batch_size=4, lr=1.0)
    training.start()
    pusher = Pusher(puppet)
    for _ in range(60):  # 72 MB of answers, none of which it would take
        asked = JOIN.pack(pusher.number, pusher.partition, True)
        pusher.say("join", Payload(PayloadKind.PLAIN, asked))
    with AgentProcess(cluster.address, keys, 1, program=("-c", FAR_AGENT)):

        def others_have_ended() -> bool:
            workers = cluster.status().workers
            return any(w.n_ended for w in workers if w.worker_id != puppet.name)

        wait_until(others_have_ended, "the other partition is trained meanwhile")
        assert cluster.status().counters["flooded"] == 1, "and it is expelled, long before"
        puppet.close()
        result = training.result()
    assert result.weights[:40].tolist() == [1.0] * 40
    assert not result.weights[40:].any()
