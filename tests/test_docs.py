"""What the documents say is so: examples run, and every command and file they name is there."""

from __future__ import annotations

import code
import doctest
import importlib
import importlib.util
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import paramserver

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "examples/*.md", "notebooks/*.md")
    for path in ROOT.glob(pattern)
)


def shell_commands(text: str) -> Iterator[str]:
    """Yield the commands of the ```sh blocks, without comments, continued lines joined."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.partition("#")[0].strip()
            if command:
                yield command


COMMANDS = list(
    dict.fromkeys(
        command
        for document in DOCUMENTS
        for command in shell_commands((ROOT / document).read_text(encoding="utf-8"))
        if command.startswith(("python ", "paramserver "))
    )
)
"""Those that are run; `make`, `pip` and the like are only looked at."""
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
def test_what_a_document_links_to_exists(repository: Path, document: str) -> None:
    text = (repository / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)", text)
    missing = []
    for link in links:
        name, _, anchor = link.partition("#")
        target = (repository / document).parent / name if name else repository / document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert missing == []


def anchors(document: Path) -> set[str]:
    """Return what the headings of a document are called in links, as GitHub names them."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


# --- what a document shows is run -----------------------------------------------------------------


ELSEWHERE = "0.0.0.0"
"""In a program that needs other machines: it is compiled, and not run."""
PROGRAMS = [
    pytest.param(block, id=f"{document}-{number}")
    for document in DOCUMENTS
    for number, block in enumerate(
        re.findall(
            r"^```python\n(.*?)^```",
            (ROOT / document).read_text(encoding="utf-8"),
            re.MULTILINE | re.DOTALL,
        )
    )
]


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Path:
    """A folder like a fresh clone, with a table of the user's own."""
    for path in repository.iterdir():
        if not path.name.startswith(".") and path.name != "runs":
            (tmp_path / path.name).symlink_to(path)
    lines = [f"{size},{rooms},{100 * size + 7 * rooms}" for size in range(20) for rooms in range(9)]
    (tmp_path / "mine.csv").write_text("\n".join(["size,rooms,price", *lines, ""]))
    return tmp_path


def run(words: list[str], folder: Path) -> None:
    """Run a command as a user does, to a good end.

    But for the comparison with scikit-learn, which takes seconds and has tests of its own.
    """
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PARAMSERVER_BASELINE": "0"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"


class Pasting(code.InteractiveConsole):
    """An interpreter that reads what is pasted into it, and runs none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []

    def runcode(self, _: object) -> None:
        """Run nothing."""

    def showsyntaxerror(self, *_: object, **__: object) -> None:
        """Note what is no Python."""
        self.refused.append(str(sys.exc_info()[1]))


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_in_a_document_can_be_pasted_into_an_interpreter(program: str) -> None:
    """Which wants an empty line behind a block."""
    console = Pasting()
    for line in [*program.splitlines(), ""]:
        console.push(line)
    assert console.refused == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_in_a_document_runs(clone: Path, program: str) -> None:
    compile(program, "document", "exec")
    if ELSEWHERE not in program:
        run([sys.executable, "-c", program], clone)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_in_a_document_does_what_it_says(clone: Path, command: str) -> None:
    program, *others = shlex.split(command)
    ours = [] if program == "python" else ["-m", "paramserver.cli"]
    run([sys.executable, *ours, *others], clone)


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
