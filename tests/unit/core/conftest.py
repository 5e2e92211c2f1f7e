"""Boards to begin a test with; a module whose tests begin further on has a `board` of its own."""

from __future__ import annotations

import pytest

from tests.unit.core.board import Board


@pytest.fixture
def board() -> Board:
    """A board where nobody has joined."""
    return Board()


@pytest.fixture
def crew(board: Board) -> Board:
    """A board with two workers."""
    board.join("w1", b"p1")
    board.join("w2", b"p2")
    return board
