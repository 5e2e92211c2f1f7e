"""Rows on their way to a worker that cannot open them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import DataError, RemoteProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload
from paramserver.runtime import context
from paramserver.training import far_rows
from paramserver.training.far_rows import FarRows, RowsDesk
from paramserver.training.learner import Batch


class Kept:
    """`Rows` in memory."""

    def __init__(self, *parts: Batch) -> None:
        self.parts = parts
        self.n_opened = 0

    @property
    def n_examples(self) -> tuple[int, ...]:
        return tuple(part.n for part in self.parts)

    def open(self, partition: int) -> Batch:
        self.n_opened += 1
        if self.parts[partition].n == 1:
            raise DataError("The disk is gone.", path="rows")
        return self.parts[partition]


class Caller:
    """A job's context that calls a desk straight away."""

    def __init__(self, rows: Kept) -> None:
        self.answers: Queue[ServiceReplied] = Queue()
        self.desk = RowsDesk(rows, self.answers.put, lambda: 0.0)
        self.n_calls = 0
        self.cut = 0

    def call(self, service: str, method: str, body: Payload) -> Payload:
        self.n_calls += 1
        self.desk.ask(CallService(1, self.n_calls, 1, 1, service, method, body))
        answer = self.answers.get(timeout=10)
        assert (answer.incarnation, answer.call) == (1, self.n_calls)
        if not answer.ok:
            raise calls.decode_error(answer.body, trusted=False, worker_id="master", attempts=1)
        if self.cut and method == "piece":
            return Payload(answer.body.kind, b"", (bytes(answer.body.buffers[0])[: -self.cut],))
        return answer.body


PARTS = (
    Batch(np.arange(60, dtype=np.float32).reshape(20, 3), np.arange(20)),
    Batch(csr_array(np.eye(9, 5, dtype=np.float64)), np.arange(9.0), np.linspace(0, 2, 9)),
    Batch(np.zeros((1, 3), np.float32), np.zeros(1)),
    Batch(np.zeros((2, 0), np.float32), np.zeros(2)),
)


@pytest.fixture
def caller() -> Iterator[Caller]:
    caller = Caller(Kept(*PARTS))
    yield caller
    caller.desk.close()
    assert not [t for t in threading.enumerate() if t.name == "paramserver-rows"]


def fetch(caller: Caller, partition: int) -> Batch:
    far = FarRows("training", tuple(part.n for part in PARTS))
    return context.run_in(caller, far.open, (partition,), {})  # type: ignore[arg-type,no-any-return]


@pytest.mark.parametrize("piece_bytes", [7, 64, 1 << 20])
def test_dense_rows_arrive_as_they_are(
    caller: Caller, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far_rows, "PIECE_BYTES", piece_bytes)
    there = fetch(caller, 0)
    assert there.X.dtype == np.float32
    assert np.array_equal(there.X, PARTS[0].X)
    assert there.y.dtype == PARTS[0].y.dtype
    assert np.array_equal(there.y, PARTS[0].y)
    assert there.weight is None
    assert not there.X.flags.writeable
    n_bytes = PARTS[0].X.nbytes + PARTS[0].y.nbytes
    assert caller.desk.n_bytes == n_bytes
    pieces = sum(-(-array.nbytes // piece_bytes) for array in (PARTS[0].X, PARTS[0].y))
    assert caller.n_calls == 1 + pieces


def test_sparse_rows_and_weights_arrive_as_they_are(caller: Caller) -> None:
    there = fetch(caller, 1)
    assert there.X.shape == (9, 5)
    assert np.array_equal(there.X.toarray(), PARTS[1].X.toarray())
    assert np.array_equal(there.weight, PARTS[1].weight)  # type: ignore[arg-type]


def test_rows_without_columns_arrive(caller: Caller) -> None:
    assert fetch(caller, 3).X.shape == (2, 0)


def test_rows_that_cannot_be_read_are_an_error_of_who_asks(caller: Caller) -> None:
    with pytest.raises(Exception, match="The disk is gone"):
        fetch(caller, 2)
    assert fetch(caller, 0).n == 20  # and of nobody else


def test_a_piece_that_is_cut_off_is_seen(caller: Caller) -> None:
    caller.cut = 1
    with pytest.raises(RemoteProtocolError, match="cut off"):
        fetch(caller, 0)


def test_partitions_stay_open_for_the_next_piece(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far_rows, "PIECE_BYTES", 16)
    fetch(caller, 0)
    assert caller.desk._rows.n_opened == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("rows", (4,)),
        ("rows", (-1,)),
        ("rows", ("0",)),
        ("piece", (0, "X", -1)),
        ("piece", (0, "../X", 0)),
        ("piece", (0,)),
    ],
)
def test_what_is_not_there_is_refused(caller: Caller, method: str, asked: Any) -> None:
    with pytest.raises(Exception, match=r"no such rows|no partition"):
        caller.call("training", method, calls.encode_value(asked, trusted=False))


def test_a_closed_desk_answers_nobody() -> None:
    caller = Caller(Kept(*PARTS))
    caller.desk.close()
    caller.desk.ask(CallService(1, 1, 1, 1, "training", "rows", Payload(*_nothing())))
    assert caller.answers.empty()


def _nothing() -> Any:
    return calls.encode_value((0,), trusted=False)[:2]
