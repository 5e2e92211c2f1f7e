"""The configuration of a child as one line, without the process around it."""

from __future__ import annotations

import json
import os

import pytest

from paramserver.runtime import lifeline
from paramserver.runtime.lifeline import ChildConfig

CONFIG = ChildConfig(
    address="ipc:///tmp/x",
    worker_id="a-1",
    agent_id="a",
    token="secret",
    run="0123456789abcdef",
    recorder_fd=7,
    parent_pid=42,
    trusted=True,
    keys_dir="/keys",
    allow=("mine", "theirs"),
    sys_path=("/a path", "/b\udcff"),
    python_path="/c",
    memory_limit_bytes=1 << 33,
    options={"progress_s": 0.5},
)


def test_it_survives_the_way() -> None:
    line = CONFIG.to_line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert ChildConfig.from_line(line, lifeline_fd=-1) == CONFIG
    assert ChildConfig.from_line(line, lifeline_fd=9).lifeline_fd == 9


def test_its_repr_keeps_the_secret() -> None:
    assert "secret" not in repr(CONFIG)
    assert "a-1" in repr(CONFIG)


@pytest.mark.parametrize("line", [b"[]\n", b'{"address": "x", "shoe_size": 43}\n', b"hello\n"])
def test_something_else_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"not one of this release|Expecting value"):
        ChildConfig.from_line(line)


def test_a_field_that_is_missing_is_refused() -> None:
    values = json.loads(CONFIG.to_line())
    del values["token"]
    with pytest.raises(ValueError, match="not one of this release"):
        ChildConfig.from_line(json.dumps(values).encode())


@pytest.fixture
def pipe() -> tuple[int, int]:
    return os.pipe()


def test_a_line_may_come_in_pieces(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pipe
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, n: read(fd, 3))
    os.write(writer, b"abcdefgh\n")
    assert lifeline._read_line(reader) == b"abcdefgh\n"
    os.close(reader)
    os.close(writer)


def test_a_stream_that_ends_too_early_is_refused(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"abc")
    os.close(writer)
    with pytest.raises(ValueError, match="ended before"):
        lifeline._read_line(reader)
    os.close(reader)


def test_a_line_without_end_is_refused(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    monkeypatch.setattr(lifeline, "_MAX_CONFIG_BYTES", 10)
    os.write(writer, b"x" * 11)
    with pytest.raises(ValueError, match="too long"):
        lifeline._read_line(reader)
    os.close(reader)
    os.close(writer)


def test_the_wait_ends_with_the_pipe(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"noise is not the end")
    os.close(writer)
    lifeline._wait_for_end(reader, os.getppid())
    os.close(reader)


def test_where_no_signal_tells_the_wait_ends_with_the_parent(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(lifeline, "_PARENT_CHECK_S", 0.01)
    lifeline._wait_for_end(reader, os.getppid() + 1)  # the pipe stays open
    lifeline.die_with_parent()  # there is no such call there: nothing happens
    os.close(reader)
    os.close(writer)
