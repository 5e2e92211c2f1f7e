"""Data sets from files that a user names: CSV, SVMlight, .npy and .npz.

Rule 1: what is wrong with a file is said with its line and column, in one paragraph.
Rule 2: what was taken for what (header, label, classes or numbers) is said in the notes.
Rule 3: small or large, by one process or by many: the same rows are held out, with the same values.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.data.dataset import Dataset
from paramserver.data.dealing import check_scheme, numbers_of
from paramserver.data.large import Cutting, Run, read_large
from paramserver.data.places import HELD_OUT, split_rows
from paramserver.data.roles import Roles
from paramserver.data.sources import Source, check_count, find
from paramserver.data.tables import Sparse, Table
from paramserver.data.treatment import Facts, Treatment, choose
from paramserver.errors import ConfigError
from paramserver.runtime.scratch import Scratch
from paramserver.training.csr import as_csr, index_dtype
from paramserver.training.learner import Batch

if TYPE_CHECKING:
    from paramserver.cluster import Cluster

LARGE_BYTES: Final = 1 << 28
"""From this size on, files are read by the workers, into files that are mapped."""


def read_files(
    path: str,
    test_path: str | None = None,
    *,
    label: str | None = None,
    weight: str | None = None,
    key: str | None = None,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
    cluster: Cluster | None = None,
    n_partitions: int | None = None,
    partition: str = "shuffled",
    large_bytes: int | None = None,
) -> Dataset:
    """Return the data set in a file, with held-out rows; dense columns are standardised.

    Parameters
    ----------
    path : str
        By its name ``.csv`` or ``.tsv`` (numbers, separated by comma, semicolon or tab, bare or in
        double quotes; the label in the last column or the one named), ``.svm``, ``.svmlight`` or
        ``.libsvm`` (each also with ``.gz``),
        ``.npz`` with the arrays ``X`` and ``y``, or a folder with ``X.npy`` and ``y.npy``.
    test_path : str, optional
        A file of the same kind with the rows to hold out; by default one of every 5 rows is,
        chosen by `seed` and the number of the row.
    label : str, optional
        The label's column of a table, by its name in the first line or its number from 1; or the
        array with the labels.
    weight : str, optional
        In the same way: how much each row counts, 0 or more.
    key : str, optional
        In the same way: rows with the same key can come to the same partition
        (``partition="by-key"``). In svmlight files it is ``"qid"``.
    seed : int
        Of what is held out, and of the partitions of a large file.
    dtype : dtype
        Of X, and of numbers to predict.
    cluster : Cluster, optional
        Its workers read files of `large_bytes` and more, piece by piece, into binary files in the
        cluster's folder on disk; the arrays of the data set are mapped from there and are gone
        with the cluster. No process ever holds all rows. Without a cluster one is started for the
        time of reading, and the files are there as long as the data set is.
    n_partitions : int, optional
        Into how many partitions a large file is cut; by default one for each worker.
    partition : {"shuffled", "contiguous", "stratified", "by-key"}
        How the rows of a large file are dealt out to them, see `paramserver.fit`; those of a
        small one are dealt out by `fit`. A large file is shuffled and stratified without a list of
        all its rows: see `paramserver.data.dealing`.
    large_bytes : int, optional
        From this size on a file is large; by default 256 MiB. Smaller ones are read into the memory
        of this process.

    Raises
    ------
    DataError
        If a file is not what it should be, or there is no room for its rows.
    ConfigError
        If a column is named where columns have no names, or there are more partitions than rows
        or keys.
    """
    dtype = np.dtype(dtype)
    roles = Roles(label, weight, key)
    check_scheme(partition)
    if partition == "by-key" and key is None:
        raise ConfigError(
            "Partitions by key need keys: name their column with key=... (--key on the command "
            "line).",
            field="key",
            value=None,
        )
    with ExitStack() as until_read:
        scratch = until_read.enter_context(Scratch.create())
        folder = scratch.disk if cluster is None else cluster.scratch_folder
        rooms = until_read.enter_context(
            tempfile.TemporaryDirectory(prefix="unpacked-", dir=folder)
        )
        source, test = _find_both(path, test_path, roles, Path(rooms))
        n_bytes = source.n_bytes + (0 if test is None else test.n_bytes)
        if n_bytes < (LARGE_BYTES if large_bytes is None else large_bytes):
            return _read_small(source, test, seed, dtype)
        if cluster is not None:
            cutting = _cutting(cluster, n_partitions, partition, seed)
            return _read_by(cluster, source, test, cutting, dtype, folder)
        from paramserver.local_cluster import LocalCluster

        lasting = Scratch.create()
        try:
            with LocalCluster() as own:
                cutting = _cutting(own, n_partitions, partition, seed)
                found = _read_by(own, source, test, cutting, dtype, lasting.disk)
        except BaseException:
            lasting.close()
            raise
        weakref.finalize(found, lasting.close)  # also at the end of this process
        return found


def _find_both(
    path: str, test_path: str | None, roles: Roles, rooms: Path
) -> tuple[Source, Source | None]:
    for name in ("train", "test"):
        (rooms / name).mkdir()
    source = find(path, roles, rooms / "train")
    if test_path is None:
        return source, None
    return source, find(test_path, roles, rooms / "test", source)


def _cutting(cluster: Cluster, n_partitions: int | None, scheme: str, seed: int) -> Cutting:
    return Cutting(scheme, cluster.n_wanted if n_partitions is None else n_partitions, seed)


def _read_by(
    cluster: Cluster,
    source: Source,
    test: Source | None,
    cutting: Cutting,
    dtype: np.dtype[Any],
    folder: Path,
) -> Dataset:
    """Let the workers of a cluster read large files into a folder."""
    run: Run = cluster.map if cluster.trusted else map
    treatment, rows, held_out = read_large(source, test, cutting, dtype, run, folder)
    found = _describe(source, test, treatment, rows.whole(), held_out.whole())
    return replace(found, rows=rows, partition=cutting.scheme)


def _read_small(source: Source, test: Source | None, seed: int, dtype: np.dtype[Any]) -> Dataset:
    """Read everything in this process, into its memory."""
    tables = [part.read(dtype) for part in source.parts]
    counts = [table.n for table in tables]
    check_count(sum(counts), source, test)
    firsts = accumulate(counts, initial=0)
    masks = [
        split_rows(first, n, seed, hold_out=test is None).is_train
        for first, n in zip(firsts, counts, strict=False)
    ]
    facts = [Facts.of(table, mask) for table, mask in zip(tables, masks, strict=True)]
    test_tables = [] if test is None else [part.read(dtype) for part in test.parts]
    nothing = [np.ones(table.n, bool) for table in test_tables]
    test_facts = [Facts.of(*each) for each in zip(test_tables, nothing, strict=True)]
    if test is not None:
        check_count(sum(each.n for each in test_facts), test, test)
    treatment = choose(facts, test_facts, source.name)
    train = _gather(tables, masks, treatment, source.name, dtype)
    if test is None:
        held_out = _gather(tables, [~mask for mask in masks], treatment, source.name, dtype)
    else:
        held_out = _gather(test_tables, nothing, treatment, test.name, dtype)
    found = _describe(source, test, treatment, train, held_out)
    keys = [
        table.key.take(np.flatnonzero(mask))
        for table, mask in zip(tables, masks, strict=True)
        if table.key is not None
    ]
    return replace(found, keys=numbers_of(keys)) if keys else found


def _gather(
    tables: Sequence[Table],
    masks: Sequence[npt.NDArray[np.bool_]],
    treatment: Treatment,
    name: str,
    dtype: np.dtype[Any],
) -> Batch:
    """Return the chosen rows of all tables in one array."""
    chosen = [table.take(mask) for table, mask in zip(tables, masks, strict=True)]
    treated = [treatment.apply(table, name) for table in chosen]
    y = np.concatenate([each.y for each in treated]).astype(treatment.y_dtype(dtype))
    weight = None
    if treatment.is_weighted:
        weight = np.concatenate([each.weight for each in treated if each.weight is not None])
    sparse = [each.X for each in treated if isinstance(each.X, Sparse)]
    if not sparse:
        return Batch(np.concatenate([each.X for each in treated]), y, weight)
    data, columns, lengths = (np.concatenate(each) for each in zip(*sparse, strict=True))
    index = index_dtype(treatment.n_columns, len(data))
    indptr = np.zeros(len(y) + 1, index)
    np.cumsum(lengths, out=indptr[1:])
    shape = (len(y), treatment.n_columns)
    return Batch(as_csr(data, columns.astype(index, copy=False), indptr, shape), y, weight)


def _describe(
    source: Source, test: Source | None, treatment: Treatment, train: Batch, held_out: Batch
) -> Dataset:
    """Return the data set, with what was done to it in words."""
    notes = [*source.notes]
    if test is None:
        notes.append(f"one of every {HELD_OUT} rows, chosen by chance, is held out")
    if treatment.scaling is not None:
        notes.append("each column standardised by its mean and deviation over the training rows")
    else:
        notes.append("sparse columns are taken as they are")
    notes.append(f"the labels are taken for {treatment.meaning}")
    classes = treatment.meaning.classes
    return Dataset(
        Path(source.name).name,
        train.X,
        train.y,
        held_out.X,
        held_out.y,
        0 if classes is None else len(classes),
        tuple(notes),
        treatment.scaling,
        classes=classes,
        weight_train=train.weight,
        weight_test=held_out.weight,
    )
