from __future__ import annotations

from pathlib import Path

import pytest

from paramserver.transport.socket_file import SocketFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "s"
    path.write_text("mine")
    return path


def test_a_file_is_hidden_shown_and_removed(path: Path) -> None:
    file = SocketFile(str(path))
    file.hide()
    file.hide()
    assert not path.exists()
    file.show()
    file.show()
    assert path.read_text() == "mine"
    file.remove()
    file.remove()
    assert list(path.parent.iterdir()) == []


def test_a_hidden_file_is_removed_too(path: Path) -> None:
    file = SocketFile(str(path))
    file.hide()
    file.remove()
    assert list(path.parent.iterdir()) == []


def test_the_file_of_a_successor_is_left_alone(path: Path) -> None:
    file = SocketFile(str(path))
    path.rename(path.with_name("old"))  # keeps its number from being given again
    path.write_text("successor's")
    file.remove()
    assert path.read_text() == "successor's"


def test_a_file_that_somebody_has_removed_is_no_error(path: Path) -> None:
    file = SocketFile(str(path))
    path.unlink()
    file.hide()
    file.show()
    path.parent.rmdir()
    file.hide()
    file.remove()
