"""Lines: a question and its answer over a stream socket of the kernel."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paramserver.errors import PeerLost
from paramserver.transport.lines import Exchange, Line


class Watcher:
    """Stands for a transport's poll: reads what is ready when it is told to."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, on_ready: Callable[[], None]) -> None:
        self.watched[fd] = on_ready

    def unwatch(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def look(self) -> None:
        for on_ready in list(self.watched.values()):
            on_ready()


class Master:
    """An exchange that keeps its questions."""

    def __init__(self, path: Path) -> None:
        self.watcher = Watcher()
        self.questions: list[tuple[int, bytes]] = []
        self.exchange = Exchange(
            path,
            4,
            lambda line, question: self.questions.append((line, question)),
            self.watcher.watch,
            self.watcher.unwatch,
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "line"


@pytest.fixture
def master(path: Path) -> Iterator[Master]:
    master = Master(path)
    yield master
    master.exchange.close()


def in_a_thread(ask: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(ask())
        except PeerLost as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_a_question_is_answered_on_the_line_it_came_by(path: Path, master: Master) -> None:
    one, two = Line(path, 3), Line(path, 3)
    master.watcher.look()
    master.watcher.look()
    assert len(master.exchange) == 2
    asked = [in_a_thread(lambda: one.ask(b"one?")), in_a_thread(lambda: two.ask(b"two?"))]
    while len(master.questions) < 2:
        master.watcher.look()
    for line, question in master.questions:
        master.exchange.answer(line, question[:3])
    for thread, _ in asked:
        thread.join()
    assert [results for _, results in asked] == [[b"one"], [b"two"]]
    one.close()
    two.close()


def test_a_question_that_comes_in_pieces_is_put_together(path: Path, master: Master) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(str(path))
        master.watcher.look()
        end.send(b"wh")
        master.watcher.look()
        master.watcher.look()  # nothing new
        assert master.questions == []
        end.send(b"y?")
        master.watcher.look()
        assert [question for _, question in master.questions] == [b"why?"]


def test_who_asks_is_told_that_the_master_has_hung_up(path: Path, master: Master) -> None:
    line = Line(path, 3)
    master.watcher.look()
    thread, results = in_a_thread(lambda: line.ask(b"why?"))
    while not master.questions:
        master.watcher.look()
    master.exchange.hang_up(master.questions[0][0])
    thread.join()
    assert isinstance(results[0], PeerLost)
    with pytest.raises(PeerLost):
        line.ask(b"why?")
    line.close()


def test_a_line_that_its_worker_has_closed_is_forgotten(path: Path, master: Master) -> None:
    line = Line(path, 3)
    master.watcher.look()
    assert len(master.exchange) == 1
    line.close()
    master.watcher.look()
    assert len(master.exchange) == 0
    master.exchange.answer(1, b"yes")  # an answer that came too late is dropped


def test_the_number_of_a_line_is_never_used_again(path: Path, master: Master) -> None:
    """A descriptor is, at once: an answer meant for the dead would reach a stranger."""
    numbers = []
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(str(path))
            master.watcher.look()
            end.send(b"why?")
            master.watcher.look()
            [(number, _)] = master.questions
            master.questions.clear()
            numbers.append(number)
            master.exchange.hang_up(number)
    assert len(set(numbers)) == 3


def test_nobody_listens_after_the_exchange_is_closed(path: Path, master: Master) -> None:
    master.exchange.close()
    master.exchange.close()
    assert master.watcher.watched == {}
    with pytest.raises(PeerLost, match="Nobody listens"):
        Line(path, 3)


def test_a_line_that_nobody_has_any_more_hangs_up(master: Master, path: Path) -> None:
    """Without a warning, which would be an error here."""
    line = Line(path, 4)
    master.watcher.look()
    assert len(master.watcher.watched) == 2
    del line
    master.watcher.look()
    assert len(master.watcher.watched) == 1
