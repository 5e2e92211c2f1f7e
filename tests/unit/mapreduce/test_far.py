"""What is read from afar is what is read here, in few questions; what is lost is said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paramserver.mapreduce.far import read_far
from paramserver.mapreduce.pairs import into_lanes
from paramserver.mapreduce.shuffle import MapOutput, ShuffleWriter, read_piece
from paramserver.runtime import relay
from paramserver.runtime.context import LostInput

N_PARTS = 7


class FakeRelay:
    """Answers from this machine's files, and counts the questions."""

    def __init__(self) -> None:
        self.n_questions = 0

    def read_many(self, wanted: list[tuple[str, int, int]]) -> list[bytes | None]:
        self.n_questions += 1
        assert 0 < len(wanted) <= relay.MANY
        assert len(wanted) == 1 or sum(n for _, _, n in wanted) <= relay.PIECE_BYTES
        answers: list[bytes | None] = []
        for path, offset, n_bytes in wanted:
            if not os.path.exists(path):
                answers.append(None)
                continue
            with open(path, "rb") as file:
                file.seek(offset)
                answers.append(file.read(n_bytes))
        return answers


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> FakeRelay:
    fake = FakeRelay()
    monkeypatch.setattr(relay, "read_many", fake.read_many)
    return fake


def write(folder: Path, job: int, n_pairs: int, limit: int = 1 << 20) -> MapOutput:
    with ShuffleWriter(str(folder), job, N_PARTS, limit, trusted=False) as writer:
        for start in range(0, n_pairs, 100):
            keys = list(range(start, min(start + 100, n_pairs)))
            writer.add(into_lanes(keys, [job] * len(keys)))
        return writer.finish()


def pairs(batches: Iterator[Any]) -> list[tuple[Any, Any]]:
    return [
        pair for batch in batches for pair in zip(batch.key_list(), batch.value_list(), strict=True)
    ]


def read_here(outputs: list[MapOutput], part: int) -> list[tuple[Any, Any]]:
    return [
        pair
        for job, output in enumerate(outputs)
        for pair in pairs(each for each, _ in read_piece(output, part, job=job, trusted=False))
    ]


def test_it_is_the_same_from_afar_and_takes_two_questions(far: FakeRelay, tmp_path: Path) -> None:
    outputs = [write(tmp_path, job, 50 * job, limit=2000) for job in range(12)]
    assert outputs[0].n_segments == 0  # a map job without pairs
    assert outputs[-1].n_segments > 1
    for part in range(N_PARTS):
        far.n_questions = 0
        assert pairs(read_far(outputs, part, trusted=False)) == read_here(outputs, part)
        assert far.n_questions == 2


def test_no_more_is_asked_for_than_an_answer_holds(
    far: FakeRelay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = [write(tmp_path, job, 400) for job in range(6)]
    monkeypatch.setattr(relay, "PIECE_BYTES", 250)
    assert pairs(read_far(outputs, 3, trusted=False)) == read_here(outputs, 3)
    assert far.n_questions > 3
    monkeypatch.setattr(relay, "PIECE_BYTES", 10)  # less than any piece: each goes alone
    assert pairs(read_far(outputs, 3, trusted=False)) == read_here(outputs, 3)
    monkeypatch.setattr(relay, "MANY", 2)
    assert pairs(read_far(outputs, 3, trusted=False)) == read_here(outputs, 3)


def test_nothing_at_all_needs_no_question(far: FakeRelay, tmp_path: Path) -> None:
    assert pairs(read_far([write(tmp_path, 0, 0)], 0, trusted=False)) == []
    assert far.n_questions == 0


@pytest.mark.parametrize("harm", ["remove", "cut", "piece", "index"])
def test_what_cannot_be_read_is_a_lost_input_of_its_job(
    far: FakeRelay, tmp_path: Path, harm: str
) -> None:
    outputs = [write(tmp_path, job, 300) for job in range(4)]
    path = Path(outputs[2].path)
    data = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(data[: outputs[2].index_offset + 5])
    else:
        data[0 if harm == "piece" else outputs[2].index_offset] ^= 1
        path.write_bytes(data)
    with pytest.raises(LostInput, match=r"map job 2 cannot be read") as caught:
        pairs(read_far(outputs, 0, trusted=False))
    assert caught.value.index == 2
