"""What a worker holds of trainings, and when it lets go."""

from __future__ import annotations

import shutil
import socket
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramserver.protocol import calls
from paramserver.protocol.messages import Payload
from paramserver.training import attachment
from paramserver.training.attachment import Attachment, attach
from paramserver.training.far_rows import FarRows
from paramserver.training.folder import proof_of
from paramserver.training.learner import Batch
from paramserver.training.partitions import SharedRows
from paramserver.training.plan import TrainingPlan
from tests.numerics.learners import LeastSquares


class Master:
    """The context of a job whose master knows some trainings; it counts what it is asked."""

    worker_id = "w"
    trusted = True
    accepts_code = False

    def __init__(self) -> None:
        self.plans: dict[str, TrainingPlan] = {}
        self.asked: list[str] = []
        self.blas_threads = 0

    def call(self, service: str, method: str, body: Payload) -> Payload:
        if method == "agree":
            return calls.encode_value(self.blas_threads, trusted=False)
        assert method == "plan"
        self.asked.append(service)
        return calls.encode_value(self.plans[service], trusted=True)

    def open(self, root: Path, name: str, *, proof: str | None = None) -> Path:
        """Begin a training."""
        folder = root / name
        folder.mkdir()
        (folder / "here").write_text("secret")
        rows = Batch(np.arange(12.0).reshape(6, 2), np.zeros(6))
        shared = SharedRows.write(folder, rows, [np.arange(3), np.arange(3, 6)])
        proof = proof_of(folder) if proof is None else proof
        self.plans[name] = TrainingPlan(
            name, str(folder), LeastSquares(2), shared, 2, 0, 0.1, here=proof
        )
        return folder


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Master:
    monkeypatch.setattr(attachment, "_attachments", {})
    return Master()


def attach_to(master: Any, folder: Path) -> Attachment:
    return attach(folder.name, str(folder), master)


def test_a_plan_is_asked_for_once(master: Master, tmp_path: Path) -> None:
    folder = master.open(tmp_path, "a")
    first = attach_to(master, folder)
    assert attach_to(master, folder) is first
    assert master.asked == ["a"]
    assert first.is_near
    assert first.rows(1).X.tolist() == [[6, 7], [8, 9], [10, 11]]
    assert first.rows(1) is first.rows(1)


def test_each_job_computes_with_the_threads_of_its_own_training(
    master: Master, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    monkeypatch.setattr(attachment, "use_threads", used.append)
    folders = [master.open(tmp_path, name) for name in "ab"]
    for threads, folder in zip((1, 3), folders, strict=True):
        master.blas_threads = threads
        attach_to(master, folder)
    for folder in folders:
        attach_to(master, folder)
    assert used == [1, 3, 1, 3]


def test_a_worker_that_cannot_prove_to_be_near_asks_for_rows(
    master: Master, tmp_path: Path
) -> None:
    folder = master.open(tmp_path, "a", proof="that of another machine")
    attached = attach_to(master, folder)
    assert not attached.is_near
    assert isinstance(attached.plan.rows, FarRows)
    assert attached.plan.rows.n_examples == (3, 3)


@pytest.mark.parametrize("is_near", [True, False])
def test_a_far_worker_holds_no_more_rows_than_there_is_room_for(
    master: Master, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_near: bool
) -> None:
    monkeypatch.setattr(attachment, "room_here", lambda: 100)  # a partition takes 72 bytes
    folder = master.open(tmp_path, "a")
    attached = Attachment(master.plans[folder.name], "w", is_near=is_near)
    orders = []
    for partition in (0, 1, 0):
        orders.append(weakref.ref(attached.epoch(3, partition)))
        assert attached.rows(partition).X[0, 0] == 6.0 * partition
    is_kept = [order() is not None for order in orders]
    assert is_kept == ([True, True, True] if is_near else [False, False, True])


def test_trainings_that_have_ended_are_let_go(master: Master, tmp_path: Path) -> None:
    ended, open_one = (attach_to(master, master.open(tmp_path, name)) for name in "ab")
    shutil.rmtree(tmp_path / "a")
    assert ended.has_ended
    attach_to(master, master.open(tmp_path, "c"))
    assert [Path(key).name for key in attachment._attachments] == ["b", "c"]
    assert not open_one.has_ended


def test_of_many_trainings_the_oldest_is_opened_anew(master: Master, tmp_path: Path) -> None:
    folders = [master.open(tmp_path, name) for name in "abcde"]
    first = attach_to(master, folders[0])
    name, vector = first.own("result0")
    vector[:] = 7.0
    for folder in folders[1:]:
        attach_to(master, folder)
    again = attach_to(master, folders[0])
    assert again is not first
    assert again.own("result0")[0] == name
    assert again.own("result0")[1].tolist() == [7.0, 7.0]  # the same memory, found again
    assert master.asked == list("abcdea")


@pytest.mark.parametrize("n_later", [1, 4])
def test_who_lets_go_of_a_training_hangs_up(master: Master, tmp_path: Path, n_later: int) -> None:
    """One that has ended, by the next one; one that goes on, by the fourth after it."""
    folder = master.open(tmp_path, "a")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "line"))
        listener.listen()
        attach_to(master, folder).line()
        heard, _ = listener.accept()
    with heard:
        heard.settimeout(10)
        if n_later == 1:
            shutil.rmtree(folder)
        for name in "bcde"[:n_later]:
            attach_to(master, master.open(tmp_path, name))
        assert heard.recv(1) == b""
