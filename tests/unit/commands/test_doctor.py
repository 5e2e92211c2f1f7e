"""The examination of a machine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from paramserver.commands import doctor
from paramserver.commands.doctor import Finding, examine, report


def test_this_machine_is_examined_and_found_fit() -> None:
    found = {finding.label: finding for finding in examine()}
    assert {"python", "numpy", "processors", "open files", "loopback", "cluster"} <= set(found)
    assert [finding for finding in found.values() if finding.is_broken] == []
    assert "two workers ready in" in found["cluster"].text
    assert "OpenBLAS" in found["numpy"].text or "BLAS:" in found["numpy"].text


def test_what_is_not_installed_is_named_with_the_way_to_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    texts = {finding.label: finding.text for finding in doctor._extras()}
    assert texts["numba"] == "not installed (compiled kernels): pip install 'paramserver[fast]'"
    assert set(texts) == set(doctor.EXTRAS)


def test_a_probe_that_breaks_does_not_end_the_examination(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("half", "there")
        raise OSError("no such device")

    for name in ("_python", "_numpy", "_machine", "_limits", "_memory", "_cluster", "_extras"):
        monkeypatch.setattr(doctor, name, lambda: iter(()))
    monkeypatch.setattr(doctor, "_loopback", broken)
    monkeypatch.setattr(doctor, "_data_sets", lambda: iter([Finding("last", "there")]))
    assert list(examine()) == [
        Finding("half", "there"),
        Finding("broken", "cannot be examined: OSError('no such device')", is_broken=True),
        Finding("last", "there"),
    ]


def test_keys_that_are_missing_are_a_defect_with_the_command_that_mends_it(
    tmp_path: Path,
) -> None:
    (finding,) = doctor._keys(tmp_path / "keys")
    assert finding.is_broken
    assert finding.advice == f"paramserver keys {tmp_path / 'keys'}"


def test_the_report_marks_what_is_to_be_done_and_its_code_what_is_broken() -> None:
    file = io.StringIO()
    findings = [Finding("a", "fine"), Finding("b", "slow", "sit closer")]
    assert report(iter(findings), file) == 0
    assert file.getvalue().splitlines() == [
        "  a              fine",
        "! b              slow",
        "                 -> sit closer",
        "",
        "All that paramserver needs is there. Pieces of advice: 1.",
    ]
    file = io.StringIO()
    assert report(iter([*findings, Finding("c", "gone", is_broken=True)]), file) == 1
    assert file.getvalue().endswith("1 of these must be mended before paramserver can work.\n")
