"""What ``--help`` teaches, on a terminal of 80 columns."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

import paramserver
from paramserver import cli

COMMANDS = ("train", "worker", "wordcount", "keys", "doctor", "report")
GROUPS = {
    "train": ["Data:", "Model and steps:", "Averaging (--mode avg):", "What is shown:"],
    "worker": ["Arguments:", "What may be run:", "When to leave:"],
    "wordcount": ["How the work is cut:", "What comes out:"],
    "keys": ["Arguments:"],
    "doctor": ["Options:"],
    "report": ["Arguments:"],
}
DEFAULTS = {
    "train": ["[default: 20]", "by default one for each core"],
    "worker": ["[default: 600.0;", "[default: 1;"],
    "wordcount": ["by default 60", "by default 10"],
    "keys": [],
    "doctor": ["by default ./keys"],
    "report": ["by default report.html"],
}


@pytest.fixture
def help_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return what a command says of itself."""
    monkeypatch.setenv("COLUMNS", "80")

    def ask(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["paramserver", *words])
        assert cli.main() == 0
        return capsys.readouterr().out

    return ask


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_groups_defaults_and_ends_with_examples(
    help_of: Callable[..., str], command: str
) -> None:
    said = help_of(command, "--help")
    lines = said.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert [group for group in GROUPS[command] if f"\n{group}\n" not in said] == []
    words = " ".join(said.split())
    assert [default for default in DEFAULTS[command] if default not in words] == []
    _, _, examples = said.partition("Examples:\n")
    assert f"  paramserver {command}" in examples
    assert "--help" not in examples
    assert help_of(command, "-h") == said


def test_the_help_of_all_lists_the_commands_and_first_steps(help_of: Callable[..., str]) -> None:
    said = help_of("--help")
    assert [line for line in said.splitlines() if len(line) > 80] == []
    (listed,) = (part for part in said.split("\n\n") if part.startswith("Commands:"))
    assert sorted(line.split()[0] for line in listed.splitlines()[1:]) == sorted(COMMANDS)
    assert "First steps:" in said


def test_the_version_is_said_where_one_asks_for_it(help_of: Callable[..., str]) -> None:
    assert help_of("--version") == f"paramserver {paramserver.__version__}\n"
