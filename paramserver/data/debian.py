"""Short texts with a topic each: names and descriptions of Debian's packages, and their sections.

Rule 1: they are what `apt-cache` knows on this machine: nothing is downloaded, nothing is kept.
Rule 2: a word has the same column everywhere: columns are hashes that do not depend on the process.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise
from typing import Any, Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from paramserver.data.dataset import Dataset
from paramserver.errors import DataError
from paramserver.training.csr import as_csr
from paramserver.training.learner import Matrix

N_COLUMNS: Final = 1 << 18
MIN_ROWS: Final = 20
"""Sections with fewer packages are left out."""
MIN_PACKAGES: Final = 1_000
"""Fewer are those that are installed: the lists of all have never been fetched."""
TEST_FRACTION: Final = 0.2
_FIELD: Final = re.compile(rb"^(Package|Section|Description): (.*)$", re.MULTILINE)
_WORD: Final = re.compile(rb"[a-z0-9][a-z0-9+#.]*[a-z0-9+#]|[a-z0-9]")


def load_sections(seed: int, dtype: npt.DTypeLike) -> Dataset:
    """Return words and pairs of words, weighted by tf-idf, in rows of length 1."""
    texts, sections = parse(_read_lists())
    names, y, counts = np.unique(np.array(sections), return_inverse=True, return_counts=True)
    common = counts >= MIN_ROWS
    kept = np.flatnonzero(common[y])
    y = (np.cumsum(common) - 1)[y[kept]]
    columns, lengths = _hash_words([texts[row] for row in kept.tolist()])
    order = np.random.default_rng(seed).permutation(len(kept))
    cut = round(len(kept) * TEST_FRACTION)
    test, train = np.sort(order[:cut]), np.sort(order[cut:])
    counted = _count(columns, lengths)
    weight = _inverse_frequencies(counted[train])
    X_train, X_test = (_weigh(counted[rows], weight, np.dtype(dtype)) for rows in (train, test))
    notes = (
        f"names and descriptions of {len(kept):,} packages of Debian; words and pairs of words "
        f"hashed to {N_COLUMNS:,} columns",
        "weighted by tf-idf over the training rows, each row of length 1",
        f"{np.count_nonzero(~common)} sections with fewer than {MIN_ROWS} packages left out",
    )
    classes = tuple(names[common].tolist())
    return Dataset(
        "debian-sections", X_train, y[train], X_test, y[test], len(classes), notes, classes=classes
    )


def parse(lists: bytes) -> tuple[list[bytes], list[str]]:
    """Return name and description, and the section, of each package in the order of the lists."""
    known: set[bytes] = set()
    texts, sections = [], []
    for entry in lists.split(b"\n\n"):
        fields = dict(_FIELD.findall(entry))
        package, text = fields.get(b"Package"), fields.get(b"Description")
        section = fields.get(b"Section", b"").rpartition(b"/")[2]  # contrib/net is net
        if package and text and section and package not in known:
            known.add(package)
            texts.append(package + b" " + text)
            sections.append(section.decode("ascii", "replace"))
    return texts, sections


def _read_lists() -> bytes:
    program = shutil.which("apt-cache")
    if program is None:
        raise DataError(
            "debian-sections needs apt-cache, which Debian and Ubuntu have and this system has "
            "not. Choose another data set.",
            path="apt-cache",
        )
    done = subprocess.run([program, "dumpavail"], capture_output=True, check=False)
    if done.returncode != 0:
        error = done.stderr.decode("utf-8", "replace").strip()
        raise DataError(f"apt-cache dumpavail has failed: {error}", path=program)
    n_packages = done.stdout.count(b"\nPackage: ") + 1
    if n_packages < MIN_PACKAGES:
        raise DataError(
            f"apt-cache knows {n_packages} packages only: the lists of all packages are not on "
            "this machine. Fetch them: apt-get update",
            path=program,
        )
    return done.stdout


def _hash_words(texts: list[bytes]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the columns of all words and pairs, text after text, and how many each text has."""
    known: dict[bytes, int] = {}
    columns: list[int] = []
    lengths = np.empty(len(texts), np.int64)
    for row, text in enumerate(texts):
        words = _WORD.findall(text.lower())
        terms = [*words, *map(b" ".join, pairwise(words))]
        lengths[row] = len(terms)
        for term in terms:
            column = known.get(term)
            if column is None:
                column = known[term] = crc32(term) % N_COLUMNS
            columns.append(column)
    return np.array(columns, np.int64), lengths


def _count(columns: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Matrix:
    """Return how often each column comes in each row."""
    keys = np.repeat(np.arange(len(lengths)), lengths) * N_COLUMNS + columns
    found, counts = np.unique(keys, return_counts=True)
    rows, columns = np.divmod(found, N_COLUMNS)
    indptr = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=len(lengths)), out=indptr[1:])
    shape = (len(lengths), N_COLUMNS)
    return as_csr(counts.astype(np.float64), columns.astype(np.int32), indptr, shape)


def _inverse_frequencies(counted: Matrix) -> npt.NDArray[np.float64]:
    """Return ``log((1 + n) / (1 + rows with it)) + 1`` for each column, as scikit-learn does."""
    n_rows = np.bincount(counted.indices, minlength=N_COLUMNS)
    weight: npt.NDArray[np.float64] = np.log((1 + counted.shape[0]) / (1 + n_rows)) + 1
    return weight


def _weigh(counted: Matrix, weight: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> Matrix:
    """Return rows of length 1."""
    data = counted.data * weight[counted.indices]
    lengths = np.diff(counted.indptr)
    row = np.repeat(np.arange(len(lengths)), lengths)
    squares = np.bincount(row, data**2, len(lengths))
    data /= np.sqrt(squares)[row]
    return as_csr(data.astype(dtype), counted.indices, counted.indptr, counted.shape)
