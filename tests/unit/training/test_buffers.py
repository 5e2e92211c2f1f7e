"""The rotation of buffers: what is read is never written to."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from paramserver.training.buffers import Rotation


@pytest.fixture
def rotation(tmp_path: Path) -> Iterator[Rotation]:
    rotation = Rotation(tmp_path, np.arange(3.0))
    yield rotation
    rotation.clear()


def test_the_first_buffer_holds_a_copy_of_the_start(rotation: Rotation) -> None:
    assert rotation.array(rotation.current).tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_a_taken_buffer_is_read_by_nobody(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    rotation, views = Rotation(tmp_path, np.zeros(1)), {}
    zombies: set[int] = set()
    for _ in range(300):
        reader = chance.randrange(5)
        match chance.choice(["push", "push", "push", "refused", "lost"]):
            case "lost":
                if reader in views:
                    zombies.add(views.pop(reader))
                rotation.lose(reader)
                continue
            case what:
                rotation.look_away(reader)
                views.pop(reader, None)
                taken = rotation.take()
                assert taken != rotation.current
                assert taken not in views.values()
                assert taken not in zombies
                if what == "push":
                    rotation.make_current(taken)
                else:
                    rotation.put_back(taken)
                views[reader] = rotation.look(reader)
                assert views[reader] == rotation.current
    assert len(rotation) <= 5 + 1 + len(zombies & {*views.values(), rotation.current})


def test_p_readers_need_at_most_p_plus_one_buffers(rotation: Rotation) -> None:
    for turn in range(50):
        reader = turn % 4
        rotation.look_away(reader)
        rotation.make_current(rotation.take())
        rotation.look(reader)
    assert len(rotation) <= 5


def test_the_view_of_a_lost_reader_is_given_back_to_the_system(
    rotation: Rotation, tmp_path: Path
) -> None:
    number = rotation.look(1)
    rotation.lose(1)
    assert (tmp_path / f"w{number}").exists()  # it is current
    rotation.make_current(rotation.take())
    assert not (tmp_path / f"w{number}").exists()
