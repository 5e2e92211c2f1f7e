"""Debian's packages as rows of words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paramserver.data import debian
from paramserver.data.datasets import load
from paramserver.data.debian import parse
from paramserver.errors import DataError

WORDS = {"net": "server protocol", "games": "play board", "rare": "odd"}


def entry(i: int, section: str) -> str:
    return (
        f"Package: {section}{i}\nVersion: {i}\nDescription: {WORDS[section]} number {i % 7}\n"
        f"Section: {'contrib/' if i % 2 else ''}{section}\nSize: 1\n\n"
    )


LISTS = "".join(
    entry(i, section) for section, n in (("net", 40), ("games", 30), ("rare", 3)) for i in range(n)
)


@pytest.fixture
def apt_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of this name that says what is in `lists`."""
    program = tmp_path / "apt-cache"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/lists\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(debian, "MIN_PACKAGES", 50)
    (tmp_path / "lists").write_text(LISTS)
    return program


def test_a_package_is_taken_once_with_its_name_and_the_last_part_of_its_section() -> None:
    lists = entry(1, "net") + entry(1, "net") + "Package: bare\nSection: net\n\n"
    assert parse(lists.encode()) == ([b"net1 server protocol number 1"], ["net"])


def test_rows_have_length_1_and_columns_follow_from_the_words(apt_cache: Path) -> None:
    found = load("debian-sections", seed=1)
    assert (found.n_classes, found.classes) == (2, ("games", "net"))
    assert found.X_train.shape == (56, 1 << 18)
    assert found.X_test.shape == (14, 1 << 18)
    assert found.X_train.dtype == np.float32
    assert found.notes[2] == "1 sections with fewer than 20 packages left out"
    for X in (found.X_train, found.X_test):
        np.testing.assert_allclose(abs(X).power(2).sum(axis=1), 1, rtol=1e-6)
    both = [(found.X_train, found.y_train), (found.X_test, found.y_test)]
    for X, y in both:  # crc32(b"server") and crc32(b"play"), modulo 2**18
        assert (X[:, [120310]].toarray()[:, 0] > 0).tolist() == (y == 1).tolist()
        assert (X[:, [122554]].toarray()[:, 0] > 0).tolist() == (y == 0).tolist()


def test_weights_are_those_of_scikit_learn(apt_cache: Path) -> None:
    from sklearn.feature_extraction.text import TfidfTransformer

    columns, lengths = debian._hash_words([b"a b a", b"b c", b"c"])
    counted = debian._count(columns, lengths)
    weight = debian._inverse_frequencies(counted[:2])
    expected = TfidfTransformer().fit(counted[:2])
    np.testing.assert_allclose(weight, expected.idf_)
    ours = debian._weigh(counted, weight, np.dtype(float))
    assert abs(ours - expected.transform(counted)).max() < 1e-12


def test_what_is_missing_is_said(
    apt_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lists").write_text(entry(1, "net"))
    with pytest.raises(DataError, match=r"knows 1 packages only: .*apt-get update"):
        load("debian-sections")
    (tmp_path / "lists").unlink()
    with pytest.raises(DataError, match=r"apt-cache dumpavail has failed: .*lists"):
        load("debian-sections")
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="needs apt-cache"):
        load("debian-sections")
