"""The examination of a machine."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from paramserver.commands import doctor
from paramserver.commands.doctor import examine
from paramserver.commands.findings import Finding, State
from paramserver.transport.security import make_keys


def test_this_machine_is_examined_and_found_fit() -> None:
    found = {finding.label: finding for finding in examine()}
    assert {"python", "numpy", "processors", "open files", "loopback", "cluster"} <= set(found)
    assert [finding for finding in found.values() if finding.is_broken] == []
    assert "two workers ready in" in found["cluster"].text
    assert found["BLAS"].text.endswith("1 in each worker") or found["BLAS"].advice


def test_what_is_not_installed_is_named_with_the_way_to_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    found = {finding.label: finding for finding in doctor._extras()}
    assert found["skops"].text == (
        "not installed (scikit-learn models without pickle): pip install 'paramserver[export]'"
    )
    assert {finding.state for finding in found.values()} == {State.ABSENT}
    assert list(found) == list(doctor.EXTRAS)


def test_engines_are_named_where_they_are_and_not_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda package: package == "ray" or None)
    monkeypatch.setattr(doctor, "_version", lambda _: "2.30")
    ray = Finding("Ray", "2.30 (an engine: the line for workers can be run there)")
    assert list(doctor._engines()) == [ray]
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    (none,) = doctor._engines()
    assert (none.text, none.state) == ("none of Dask, Ray, MPI: none is needed", State.ABSENT)


def test_a_probe_that_breaks_does_not_end_the_examination(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("half", "there")
        raise OSError("no such device")

    for name in (
        "_python", "_numpy", "_machine", "_limits", "_memory", "_cluster", "_extras", "_engines"
    ):  # fmt: skip
        monkeypatch.setattr(doctor, name, lambda: iter(()))
    monkeypatch.setattr(doctor, "_keys", lambda _: iter(()))
    monkeypatch.setattr(doctor, "_loopback", broken)
    monkeypatch.setattr(doctor, "_data_sets", lambda: iter([Finding("last", "there")]))
    assert list(examine()) == [
        Finding("half", "there", group="This machine"),
        Finding(
            "broken",
            "cannot be examined: OSError('no such device')",
            is_broken=True,
            group="This machine",
        ),
        Finding("last", "there", group="Could be added"),
    ]


def test_a_container_is_told_what_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "memory_bytes", lambda: 3 << 28)
    _, memory = doctor._machine()
    assert memory.text.endswith(" are free, 0.8 may be used here (a container, a control group)")
    monkeypatch.setattr(doctor, "memory_bytes", lambda: 1 << 60)
    _, memory = doctor._machine()
    assert memory.text.endswith(" GiB are free")


def test_a_machine_without_loopback_can_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr(socket, "create_connection", unreachable)
    (finding,) = doctor._loopback()
    assert finding.text == "cannot be used: Network is unreachable"
    assert (finding.state, "ip link set lo up" in finding.advice) == (State.ADVISED, True)


def test_keys_are_looked_at_where_they_are_named_or_usually_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (finding,) = doctor._keys(tmp_path / "keys")
    assert finding.is_broken
    assert finding.advice == f"paramserver keys {tmp_path / 'keys'}"
    (finding,) = doctor._keys(None)
    assert (finding.state, "paramserver keys ./keys" in finding.text) == (State.ABSENT, True)
    make_keys(tmp_path / "keys")
    (finding,) = doctor._keys(None)
    assert (finding.state, "only you can read them" in finding.text) == (State.GOOD, True)
    (tmp_path / "keys" / "master.secret").chmod(0o644)
    (finding,) = doctor._keys(None)
    assert (finding.state, "chmod 600" in finding.advice) == (State.ADVISED, True)
