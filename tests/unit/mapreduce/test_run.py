"""Whole runs on a cluster without processes: results, counters, options, and every mistake."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramserver.errors import ConfigError, DataError
from paramserver.mapreduce import MapReduce, MapReduceResult
from paramserver.testing.inline import InlineCluster

TEXT = b"to be or not to be\nthat is the question\n\nWhether 'tis nobler in the mind to suffer\n"
COUNTS = Counter(TEXT.lower().split())


def count_words(block: bytes) -> Counter[bytes]:
    return Counter(block.lower().split())


def words_one_by_one(block: bytes) -> Iterator[tuple[bytes, int]]:
    for word in block.lower().split():
        yield word, 1


def add(key: Any, values: Any) -> Any:
    return sum(values)


@pytest.fixture
def cluster() -> Iterator[InlineCluster]:
    with InlineCluster(seed=1) as cluster:
        yield cluster
        assert os.listdir(cluster.scratch_folder) == []


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "hamlet.txt"
    path.write_bytes(TEXT)
    return path


@pytest.mark.parametrize("unit", ["lines", "line", "words"])
@pytest.mark.parametrize("mapper", [count_words, words_one_by_one])
@pytest.mark.parametrize(
    ("reducer", "combiner"), [(sum, None), (add, None), (add, add), (add, sum)]
)
def test_words_are_counted(
    cluster: InlineCluster, text: Path, unit: Any, mapper: Any, reducer: Any, combiner: Any
) -> None:
    program = MapReduce(mapper, reducer, combiner, unit=unit)
    assert program.run([text, text], cluster, n_map=7, n_reduce=3) == Counter(
        {word: 2 * n for word, n in COUNTS.items()}
    )


def test_a_result_is_a_mapping_with_pairs_in_a_fixed_order(
    cluster: InlineCluster, text: Path
) -> None:
    program = MapReduce(count_words, sum)
    result = program.run(text, cluster, n_map=3, n_reduce=2)
    assert isinstance(result, MapReduceResult)
    assert result[b"to"] == 3
    assert len(result) == len(COUNTS)
    assert b"to" in result
    assert b"nothing" not in result
    assert dict(result.items()) == COUNTS
    assert sum(result.values()) == result.total() == COUNTS.total()
    assert list(result) == [key for key, _ in result.pairs()]
    assert result.most_common(2) == [(b"to", 3), (b"be", 2)]
    assert result.most_common() == sorted(COUNTS.items(), key=lambda item: (-item[1], item[0]))
    again = program.run(text, cluster, n_map=11, n_reduce=2, memory_limit_bytes=1 << 16)
    assert list(again.pairs()) == list(result.pairs())


def test_most_common_is_that_of_a_counter_for_any_n(cluster: InlineCluster) -> None:
    numbers = [n * n % 101 for n in range(2000)]
    result = MapReduce(lambda n: [(n, 1)], sum).run(numbers, cluster, n_map=2, n_reduce=5)
    wanted = sorted(Counter(numbers).items(), key=lambda item: (-item[1], item[0]))
    for n in (0, 1, 7, 50, 1000):
        assert result.most_common(n) == wanted[:n]


def test_the_result_needs_no_cluster() -> None:
    with InlineCluster() as cluster:
        result = MapReduce(lambda n: [(n % 3, n)], sum).run(range(9), cluster)
    assert result == {0: 9, 1: 12, 2: 15}


def test_counters_and_timings_tell_what_was_done(cluster: InlineCluster, text: Path) -> None:
    result = MapReduce(words_one_by_one, sum, unit="line").run(text, cluster, n_map=2, n_reduce=3)
    wanted = {
        "input_bytes": len(TEXT), "records": 4, "bad_records": 0, "map_pairs": COUNTS.total(),
        "shuffle_pairs": 16, "groups": len(COUNTS), "results": len(COUNTS), "spilled_runs": 0,
        "spilled_segments": 0, "spilled_bytes": 0, "map_jobs": 2, "reduce_jobs": 3, "attempts": 5,
        "workers_lost": 0,
    }  # fmt: skip
    assert {name: result.counters[name] for name in wanted} == wanted
    assert result.counters["shuffle_bytes"] > 0
    assert set(result.timings) == {"map_s", "reduce_s", "total_s"}
    assert repr(result).startswith(f"<MapReduceResult: {len(COUNTS)} pairs in memory")


def test_progress_is_told_phase_by_phase(cluster: InlineCluster, text: Path) -> None:
    told: list[tuple[str, int, int]] = []
    MapReduce(count_words, sum).run(
        text, cluster, n_map=2, n_reduce=1, on_progress=lambda *args: told.append(args)
    )
    assert told == [
        ("map", 0, 2), ("map", 1, 2), ("map", 2, 2), ("reduce", 0, 1), ("reduce", 1, 1),
    ]  # fmt: skip


def test_results_can_be_written_as_files(cluster: InlineCluster, text: Path) -> None:
    out = text.parent / "out"
    result = MapReduce(count_words, sum).run(text, cluster, n_map=3, n_reduce=4, out_dir=out)
    assert sorted(os.listdir(out)) == ["_SUCCESS", *(f"part-0000{n}" for n in range(4))]
    assert result.paths == [out / f"part-0000{n}" for n in range(4)]
    assert len(result) == len(COUNTS)
    lines = b"".join(path.read_bytes() for path in result.paths).splitlines()
    assert dict(line.split(b"\t") for line in lines) == {
        word: b"%d" % n for word, n in COUNTS.items()
    }
    for path in result.paths:
        keys = [line.split(b"\t")[0] for line in path.read_bytes().splitlines()]
        assert keys == sorted(keys)
    with pytest.raises(ConfigError, match="result is in files"):
        result[b"to"]


def test_lines_can_have_any_format(cluster: InlineCluster, text: Path) -> None:
    result = MapReduce(count_words, sum).run(
        text, cluster, n_reduce=1, out_dir=text.parent / "csv",
        to_line=lambda word, n: b'"%b",%d' % (word, n),
    )  # fmt: skip
    assert b'"question",1\n' in result.paths[0].read_bytes()


def test_values_come_in_the_order_of_the_input_whatever_the_schedule() -> None:
    def first_letters(word: str) -> Iterator[tuple[str, str]]:
        yield word[0], word

    words = [f"{letter}{n}" for n in range(300) for letter in "abc"]
    results = []
    for seed, limit in ((None, 1 << 26), (1, 1 << 26), (2, 1 << 16), (3, 1 << 16)):
        with InlineCluster(seed, duplicates=0.3, losses=0.2) as cluster:
            result = MapReduce(first_letters, lambda key, values: list(values), unit="item").run(
                words, cluster, n_map=7, n_reduce=2, memory_limit_bytes=limit
            )
        results.append(list(result.pairs()))
    assert dict(results[0]) == {x: [w for w in words if w[0] == x] for x in "abc"}
    assert results[1:] == results[:1] * 3


def test_keys_that_are_equal_are_one_key_across_jobs(cluster: InlineCluster) -> None:
    items = [1, 1.0, True, np.int64(1), 2, "1", b"1", 0.5, (1, 2), (1.0, 2), None, 2.0]
    result = MapReduce(lambda key: [(key, 1)], sum, unit="item").run(
        items, cluster, n_map=len(items), n_reduce=7
    )
    assert result == Counter(items)


def test_arrays_are_values(cluster: InlineCluster) -> None:
    rows = np.arange(12.0).reshape(6, 2)
    result = MapReduce(lambda row: [(int(row[0]) % 4, row)], lambda key, rows: sum(rows)).run(
        rows, cluster, n_map=4, n_reduce=2
    )
    np.testing.assert_array_equal(result[0], rows[0] + rows[2] + rows[4])
    np.testing.assert_array_equal(result[2], rows[1] + rows[3] + rows[5])


def test_anything_that_can_be_pickled_is_a_value_inside_the_trust_domain(
    cluster: InlineCluster,
) -> None:
    program = MapReduce(lambda n: [("sum", Decimal(n) / 10)], sum)
    assert program.run(range(5), cluster) == {"sum": Decimal("1.0")}


def test_a_reducer_may_yield_other_keys_and_pairs_are_all_there(cluster: InlineCluster) -> None:
    def halves(key: int, values: Any) -> Iterator[tuple[str, int]]:
        yield "all", sum(values)
        yield str(key), 1

    result = MapReduce(lambda n: [(n % 2, n)], halves).run(range(10), cluster, n_reduce=3)
    assert sorted(result.pairs()) == [("0", 1), ("1", 1), ("all", 20), ("all", 25)]
    with pytest.raises(DataError, match="only 3 different keys"):
        result["all"]


# --- input at its limits --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"\n\n\n", b"one", b"one\ntwo", b"\x00\xff\x80 \x00\n\x1c\x85", b"a" * 100_000,
     b"a " * 50_000, bytes(range(256)) * 20],
    ids=["empty", "a newline", "newlines", "a word", "no newline at the end", "binary",
         "a long word", "a long line", "all bytes"],
)  # fmt: skip
@pytest.mark.parametrize("unit", ["lines", "line", "words"])
def test_odd_files_are_counted_right(
    cluster: InlineCluster, tmp_path: Path, data: bytes, unit: Any
) -> None:
    path = tmp_path / "odd"
    path.write_bytes(data)
    for mapper in (count_words, words_one_by_one):
        result = MapReduce(mapper, sum, unit=unit).run(path, cluster, n_map=30, n_reduce=5)
        assert result == Counter(data.lower().split())


def test_lines_are_those_between_newlines(cluster: InlineCluster, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\r\n\nb\x0cc\n\nd")
    program = MapReduce(lambda line: [(line, 1)], sum, unit="line")
    assert program.run(path, cluster) == {b"a\r": 1, b"": 2, b"b\x0cc": 1, b"d": 1}


def test_no_items_give_no_pairs(cluster: InlineCluster, tmp_path: Path) -> None:
    assert MapReduce(count_words, sum).run([], cluster) == {}
    result = MapReduce(count_words, sum).run([], cluster, n_reduce=2, out_dir=tmp_path / "out")
    assert [path.read_bytes() for path in result.paths] == [b"", b""]
    assert not result


# --- mistakes -------------------------------------------------------------------------------------


class Refusing:
    """A cluster that must not be used."""

    scratch_folder = "/nowhere"

    def run_plan(self, *_: Any) -> Any:
        raise AssertionError("a job was run")

    status = run_plan


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_map": 0}, "n_map must be an integer of at least 1"),
        ({"n_reduce": 1.5}, "n_reduce must be an integer"),
        ({"n_reduce": True}, "n_reduce must be an integer"),
        ({"n_reduce": 1 << 17}, "n_reduce must be at most 65,536"),
        ({"memory_limit_bytes": 1}, "memory_limit_bytes must be an integer of at least 65,536"),
        ({"max_bad_records": -1}, "max_bad_records"),
        ({"block_bytes": 0}, "block_bytes"),
        ({"to_line": str}, "to_line goes with out_dir"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(options: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        MapReduce(count_words, sum).run(["a"], Refusing(), **options)
    assert caught.value.field in options


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ((None, sum), "mapper"),
        ((count_words, "sum"), "reducer"),
        ((count_words, add, 3), "combiner"),
        ((count_words, len, len), "combiner"),
    ],
)
def test_a_wrong_function_is_refused_before_anything_runs(args: Any, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MapReduce(*args).run([1], Refusing())
    assert caught.value.field == field


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ConfigError, match="unit must be one of lines, line, words, item"):
        MapReduce(count_words, sum, unit="pages").run([1], Refusing())  # type: ignore[arg-type]


def test_a_missing_file_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        MapReduce(count_words, sum).run(tmp_path / "no", Refusing(), out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_folder_is_an_error_before_a_job_runs(text: Path) -> None:
    with InlineCluster() as cluster:
        cluster.run_plan = Refusing().run_plan  # type: ignore[method-assign]
        with pytest.raises(ConfigError, match="not empty"):
            MapReduce(count_words, sum).run(text, cluster, out_dir=text.parent)
        assert os.listdir(cluster.scratch_folder) == []
    assert os.listdir(text.parent) == ["hamlet.txt"]


def fail_on_the_question(line: bytes) -> Iterator[tuple[bytes, int]]:
    for word in line.split():
        if word == b"question":
            raise ValueError("that is it")
        yield word, 1


def test_an_error_of_the_mapper_says_where_and_leaves_nothing(
    cluster: InlineCluster, text: Path
) -> None:
    out = text.parent / "out"
    with pytest.raises(ValueError, match="that is it") as caught:
        MapReduce(fail_on_the_question, sum, unit="line").run(text, cluster, 1, 1, out)
    assert any("record 2 of this job" in note and str(text) in note
               for note in caught.value.__notes__)  # fmt: skip
    assert not out.exists()


def test_an_error_of_the_reducer_leaves_nothing(cluster: InlineCluster, text: Path) -> None:
    def fail(key: bytes, values: Any) -> int:
        if key == b"the":
            raise KeyError(key)
        return 1

    out = text.parent / "out"
    out.mkdir()
    with pytest.raises(KeyError):
        MapReduce(count_words, fail).run(text, cluster, 2, 3, out)
    assert os.listdir(out) == []


def test_bad_records_are_skipped_whole_and_counted(cluster: InlineCluster, text: Path) -> None:
    program = MapReduce(fail_on_the_question, sum, unit="line")
    result = program.run(text, cluster, n_map=3, n_reduce=2, max_bad_records=1)
    good = b"".join(line for line in TEXT.splitlines(keepends=True) if b"question" not in line)
    assert result == Counter(good.split())
    assert result.counters["bad_records"] == 1


def test_bad_records_are_limited_over_all_jobs(cluster: InlineCluster) -> None:
    program = MapReduce(lambda n: [(1 // n, n)], sum)
    with pytest.raises(DataError, match="failed on 3 records; max_bad_records allows 2"):
        program.run([0, 1, 0, 2, 0], cluster, n_map=5, max_bad_records=2)
    with pytest.raises(ZeroDivisionError) as caught:
        program.run([0, 1, 0, 2, 0], cluster, n_map=1, max_bad_records=2)
    assert "2 bad records were skipped before" in caught.value.__notes__[0]


def test_a_job_that_fails_once_is_tried_again(cluster: InlineCluster, tmp_path: Path) -> None:
    marker = str(tmp_path / "marker")

    def fails_first(n: int) -> list[tuple[int, int]]:
        if not os.path.exists(marker):
            with open(marker, "w"):
                raise OSError("the first time")
        return [(n, n)]

    assert MapReduce(fails_first, sum).run([1, 2], cluster, n_map=1) == {1: 1, 2: 2}
    os.unlink(marker)
    with pytest.raises(OSError, match="the first time"):
        MapReduce(fails_first, sum).run([1, 2], cluster, n_map=1, max_failures=1)


def test_a_full_disk_is_an_error_in_words_and_nothing_is_left(
    cluster: InlineCluster, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paramserver.mapreduce.files.os.write", write)
    out = text.parent / "out"
    with pytest.raises(DataError, match=f"Make room in {cluster.scratch_folder}"):
        MapReduce(count_words, sum).run(text, cluster, 1, 1, out)
    assert not out.exists()


def test_an_input_that_is_lost_is_made_again(text: Path) -> None:
    with InlineCluster(seed=5, losses=1.0) as cluster:
        result = MapReduce(count_words, sum).run(text, cluster, n_map=3, n_reduce=4)
        assert result == COUNTS
        assert result.counters["attempts"] > 7


def test_a_key_or_value_that_cannot_travel_is_named(cluster: InlineCluster) -> None:
    with pytest.raises(DataError, match="type list cannot be a key"):
        MapReduce(lambda n: [([n], 1)], sum).run([1], cluster)
    with pytest.raises(DataError, match="A value cannot be handed on"):
        MapReduce(lambda n: [(n, (m for m in "a"))], add).run([1], cluster)


def test_without_trust_only_plain_values_travel(text: Path) -> None:
    """Checked on the jobs themselves: user functions have no way to such workers by this fake."""
    from paramserver.mapreduce.job import Settings, map_job, reduce_job

    with InlineCluster(trusted=False) as cluster:
        settings = Settings("item", 2, cluster.scratch_folder, 100, 1 << 20, 0, False).plain()
        mapped = [map_job(0, [1, 2], lambda n: [(n, (n, "x"))], None, settings)]
        reduced = reduce_job(mapped, 0, lambda k, v: list(v), None, None, settings)
        assert reduced["groups"] <= 2
        with pytest.raises(DataError, match="only None, bool, int"):
            map_job(0, [1], lambda n: [(n, Decimal(1))], None, settings)


def test_mistakes_can_be_found_before_there_is_a_cluster(tmp_path: Path) -> None:
    program = MapReduce(count_words, sum)
    text = tmp_path / "text"
    text.write_bytes(TEXT)
    program.check(str(text), 1, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="There is no file"):
        program.check([str(text), str(tmp_path / "missing")])
    with pytest.raises(ConfigError, match="n_map must be"):
        program.check(str(text), n_map=0)
    with pytest.raises(ConfigError, match="is not empty"):
        program.check(str(text), out_dir=tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        program.check(str(text), out_dir=text)
