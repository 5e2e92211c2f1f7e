"""Where gradients are found and weights are handed out: shared memory, and what goes far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramserver.errors import RemoteProtocolError
from paramserver.training.desks import NO_ROWS, RowDesk, WholeDesk
from paramserver.training.pushes import RowGradient, Verdict
from paramserver.training.rowslot import RowSlot
from paramserver.transport.shm import SharedVector

W = np.arange(8, dtype=np.float32)


def open_slot(folder: Path, owner: int, capacity: int) -> RowSlot:
    """Make a slot as a worker does."""
    n_bytes = RowSlot.n_bytes(capacity, 2, np.float32)
    memory = SharedVector.create(folder / RowSlot.name(owner, capacity), n_bytes, np.uint8)
    return RowSlot(memory.array, owner, capacity, 2, np.float32)


def test_the_parts_of_a_slot_do_not_overlap() -> None:
    capacity = 5
    memory = np.zeros(RowSlot.n_bytes(capacity, 3, np.float64), np.uint8)
    slot = RowSlot(memory, 1, capacity, 3, np.float64)
    slot.rows(5)[:] = 1
    slot.want(5)[:] = 2
    slot.values(5)[:] = 3.0
    slot.reply(5)[:] = 4.0
    assert slot.rows(5).tolist() == [1] * 5
    assert slot.want(2).tolist() == [2] * 2
    assert (slot.values(5) == 3).all()
    assert (slot.reply(5) == 4).all()
    assert slot.values(2).shape == (2, 3)
    assert slot.n_bytes(capacity, 3, np.float64) == 2 * 5 * 8 + 2 * 5 * 3 * 8


def test_a_near_worker_rings_for_its_slot_and_finds_what_it_wants_there(tmp_path: Path) -> None:
    desk = RowDesk(tmp_path, W, 2)
    assert desk.start is not W
    slot = open_slot(tmp_path, 7, 4)
    slot.rows(2)[:] = [0, 3]
    slot.values(2)[:] = 5.0
    slot.want(1)[:] = [2]
    (rows, values), want = desk.near_question(7, 2, 1, 4)  # type: ignore[misc]
    assert rows.tolist() == [0, 3]
    assert values.tolist() == [[5, 5], [5, 5]]
    assert want.tolist() == [2]
    assert desk.show(7, want, desk.start) == 0
    assert slot.reply(1).tolist() == [[4, 5]]
    assert (desk.pushed_bytes, desk.pulled_bytes) == (2 * 8 + 4 * 4 + 8, 8)


def test_a_larger_slot_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    desk = RowDesk(tmp_path, W, 2)
    open_slot(tmp_path, 7, 2)
    desk.near_question(7, 0, 0, 2)
    larger = open_slot(tmp_path, 7, 4)
    larger.want(3)[:] = [0, 1, 3]
    question = desk.near_question(7, 0, 3, 4)
    desk.show(7, question.want, desk.start)
    assert larger.reply(3).tolist() == [[0, 1], [2, 3], [6, 7]]
    assert [path.name for path in tmp_path.iterdir()] == ["rows7.4"]
    desk.lose(7)
    assert list(tmp_path.iterdir()) == []


def test_rows_for_a_far_worker_are_a_copy(tmp_path: Path) -> None:
    desk = RowDesk(tmp_path, W, 2)
    sent = desk.send(7, np.array([1, 3]), desk.start)
    desk.start[:] = 0
    assert sent.tolist() == [[2, 3], [6, 7]]


@pytest.mark.parametrize(
    "want",
    [np.array([4]), np.array([-1]), np.array([1, 0]), np.array([1, 1]), np.array([[1]]),
     np.array([1], np.int32), np.array([0.0])],
)  # fmt: skip
def test_rows_that_cannot_be_wanted_are_seen(tmp_path: Path, want: Any) -> None:
    assert RowDesk(tmp_path, W, 2).fault_of(want) is Verdict.MISPLACED
    assert WholeDesk(tmp_path, W).fault_of(want) is None


def test_what_a_far_worker_sends_is_taken_apart(tmp_path: Path) -> None:
    rows, values, want = np.array([1]), np.ones((1, 2), np.float32), np.array([0])
    desk = RowDesk(tmp_path, W, 2)
    question = desk.far_question((rows, values, want))
    assert isinstance(question.gradient, RowGradient)
    assert question.gradient.values is values
    assert question.want is want
    assert desk.far_question((want,)).want is want
    whole = WholeDesk(tmp_path, W)
    assert whole.far_question((W,)).gradient is W
    for bad in ((), (1,), (rows, values), (rows, values, 3)):
        with pytest.raises(RemoteProtocolError):
            desk.far_question(bad)
    for bad in ((), (1,), (W, W)):
        with pytest.raises(RemoteProtocolError):
            whole.far_question(bad)


def test_weights_that_are_on_their_way_to_a_far_worker_are_not_written_to(tmp_path: Path) -> None:
    desk = WholeDesk(tmp_path, W)
    desk.seat(1, is_far=True)
    sent = desk.send(1, NO_ROWS, desk.start)
    for step in range(1, 6):  # somebody else pushes
        number, spare = desk.take_spare(2)
        spare[:] = step
        desk.settle(number, is_taken=True)
        desk.show(2, NO_ROWS, spare)
    assert sent.tolist() == W.tolist()
    assert desk.start.tolist() == [5] * 8
    number, spare = desk.take_spare(1)  # it has asked again, so it has what was sent
    desk.settle(number, is_taken=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w0", "w1", "w2"]


def test_the_gradient_of_a_lost_worker_leaves_no_file(tmp_path: Path) -> None:
    desk = WholeDesk(tmp_path, W)
    desk.seat(1, is_far=False)
    assert (tmp_path / "gradient1").exists()
    desk.near_question(1, 0, 0, 0)
    desk.lose(1)
    assert not (tmp_path / "gradient1").exists()
