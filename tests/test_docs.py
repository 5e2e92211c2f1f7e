"""What the documents say is so: examples run, and every command and file they name is there."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import paramserver

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(paramserver.__path__, "paramserver.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", ["paramserver", *MODULES])
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    outcome = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS, raise_on_error=False
    )
    assert outcome.failed == 0


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_in_a_document_exist(repository: Path, document: str) -> None:
    text = (repository / document).read_text(encoding="utf-8")
    wrong = [
        f"{command}: {complaint}"
        for command in shell_commands(text)
        if (complaint := complaint_about(command, repository))
    ]
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_files_that_a_document_links_to_exist(repository: Path, document: str) -> None:
    text = (repository / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", text)
    assert [link for link in links if not (repository / link).exists()] == []


def test_the_python_blocks_of_the_readme_can_be_compiled(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        compile(block, "README.md", "exec")


def shell_commands(text: str) -> Iterator[str]:
    """Yield the commands of the ```sh blocks, without comments, continued lines joined."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.partition("#")[0].strip()
            if command:
                yield command


def complaint_about(command: str, repository: Path) -> str:
    """Say what is wrong with a command that names a target, module or file of ours; else ''."""
    match shlex.split(command):
        case ["make", *targets]:
            there = _make_targets(repository)
            missing = [t for t in targets if "=" not in t and t not in there]
            return f"no such target: {missing}" if missing else ""
        case [python, "-m", module, *_] if _is_python(python) and module.startswith("paramserver"):
            return "" if importlib.util.find_spec(module) else "no such module"
        case [python, script, *_] if _is_python(python) and script.endswith(".py"):
            return "" if (repository / script).exists() else "no such file"
    return ""


def _is_python(word: str) -> bool:
    return re.fullmatch(r"(.*/)?python[0-9.]*", word) is not None


def _make_targets(repository: Path) -> set[str]:
    text = (repository / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))


def test_the_check_of_commands_sees_what_it_should(repository: Path) -> None:
    text = (
        "```sh\nmake demo   # words\nmake VENV=x teste\n.venv/bin/python -m paramserver.wroker \\\n"
        "  tcp://x\npython examples/none.py a\nls\n```\n```python\nmake nothing\n```\n"
    )
    commands = list(shell_commands(text))
    assert [complaint_about(command, repository) for command in commands] == [
        "",
        "no such target: ['teste']",
        "no such module",
        "no such file",
        "",
    ]
