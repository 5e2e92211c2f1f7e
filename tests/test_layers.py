"""Imports point down, and what decides stays pure: the contracts hold, and they bite.

import-linter sees which module imports which. What it cannot see in the pure modules (builtins
that reach outside, `np.random`, module state) is read from their syntax trees here.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REACHES_OUTSIDE = {"open", "print", "input", "exec", "eval", "compile", "breakpoint", "__import__"}
DIFFERS_BETWEEN_RUNS = {"hash"}
CHANCE = {"np.random", "numpy.random"}


def impurities(source: str) -> list[str]:
    """Name what a pure module must not do, with the line: outside world, chance, module state."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in REACHES_OUTSIDE | DIFFERS_BETWEEN_RUNS:
                found.append(f"line {node.lineno}: {name}()")
            case ast.Attribute() if ast.unparse(node) in CHANCE:
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
            case ast.Global(names=names):
                found.append(f"line {node.lineno}: global {', '.join(names)}")
            case ast.AsyncFunctionDef() | ast.Await():
                found.append(f"line {node.lineno}: async")
    return found


def imported_names(tree: ast.Module) -> set[str]:
    """Name all modules that a file imports, at the top or within functions."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str(module)):
                names.add(module)
    return names


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("with open('x') as f:\n    pass", ["line 1: open()"]),
        ("import numpy as np\nx = np.random.default_rng(0)", ["line 2: np.random"]),
        ("def f(key):\n    return hash(key) % 7", ["line 2: hash()"]),
        ("def f():\n    global n\n    n = 1", ["line 2: global n"]),
        ("def f(x):\n    print(x)", ["line 2: print()"]),
        ("async def f(x):\n    return x", ["line 1: async"]),
        ("def f(door):\n    return door.open()", []),
        ('"""Never calls open() or hash()."""', []),
    ],
)
def test_the_check_of_pure_modules_sees_what_it_should(source: str, expected: list[str]) -> None:
    assert impurities(source) == expected


def test_pure_modules_do_nothing_but_decide(repository: Path) -> None:
    files = _pure_files(repository)
    assert repository / "paramserver/protocol/messages.py" in files
    found = {
        str(path.relative_to(repository)): impurities(path.read_text(encoding="utf-8"))
        for path in files
    }
    assert {path: what for path, what in found.items() if what} == {}


def test_every_file_that_calls_itself_pure_is_held_to_it(repository: Path) -> None:
    """Outside of the contract (in `transport`, say) too; there zmq's constants may be used."""
    forbidden = set(_pure_contracts(repository)[0]["forbidden_modules"]) - {"zmq"}
    wrong = {}
    for path in {*(repository / "paramserver").rglob("*.py")} - {*_pure_files(repository)}:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if " Pure." in (ast.get_docstring(tree) or ""):
            taken = {name.partition(".")[0] for name in imported_names(tree)} & forbidden
            wrong[path.name] = [*taken, *impurities(ast.unparse(tree))]
    assert {name: what for name, what in wrong.items() if what} == {}


def test_nothing_inside_goes_through_the_front_door(repository: Path) -> None:
    """The root re-exports all layers, so import-linter has to leave imports of it alone."""
    submodules = {path.stem for path in (repository / "paramserver").iterdir()}
    found = []
    for path in (repository / "paramserver").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.ImportFrom(module="paramserver", names=names):
                    found += [(path.name, alias.name) for alias in names]
                case ast.Attribute(value=ast.Name(id="paramserver"), attr=name):
                    found.append((path.name, name))
    assert [
        (file, n) for file, n in found if n not in submodules | {"__version__", "__file__"}
    ] == []


def test_all_contracts_of_the_layers_are_kept(repository: Path) -> None:
    done = _lint_imports(repository)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("contract", "heading"),
    [
        ("layers", "Imports point down; `|` stands between siblings"),
        ("core", "Inside `core` the machines are cut by noun"),
        ("training", "Inside `training` one run is cut in the same way"),
    ],
)
def test_the_map_shows_the_layers_of_the_contract_in_their_order(
    repository: Path, contract: str, heading: str
) -> None:
    text = (repository / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = re.search(r"\n\n((?: {4}.*\n)+)", text[text.index(heading) :])
    assert block is not None
    shown = re.findall(r"^ {4}(\w+(?: [|>] \w+)*)(?: {2}|$)", block[1], re.MULTILINE)
    layers = _contracts(repository)[contract]["layers"]
    assert [re.findall(r"\w+", line) for line in _one_a_line(shown)] == [
        re.findall(r"\w+", layer) for layer in layers
    ]


def _one_a_line(shown: list[str]) -> list[str]:
    """Let `a > b | c` be the lines `a` and `b | c`."""
    return [layer for line in shown for layer in line.split(" > ")]


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/bad.py", "import paramserver.transport.base", "layers"),
        ("protocol/bad.py", "import paramserver.core", "layers"),
        ("transport/bad.py", "def f():\n    import paramserver.core", "layers"),
        ("runtime/bad.py", "from paramserver import testing", "testing"),
        ("core/bad.py", "import time", "pure"),
        ("core/bad.py", "from os import path", "pure"),
        ("core/bad.py", "import numpy.random", "pure"),
        ("training/vector.py", "import time", "pure-arithmetic"),
        ("training/vector.py", "import paramserver.training.run", "training"),
    ],
)
def test_a_breach_of_a_contract_is_seen(
    repository: Path, tmp_path: Path, module: str, line: str, contract: str
) -> None:
    shutil.copytree(repository / "paramserver", tmp_path / "paramserver")
    shutil.copy(repository / "pyproject.toml", tmp_path)
    (tmp_path / "paramserver" / module).write_text(line, encoding="utf-8")
    assert _lint_imports(tmp_path, "--contract", contract).returncode == 1
    (tmp_path / "paramserver" / module).write_text("", encoding="utf-8")
    assert _lint_imports(tmp_path, "--contract", contract).returncode == 0


def _pure_contracts(repository: Path) -> list[dict[str, list[str]]]:
    """The contracts `pure` (the strictest) and `pure-arithmetic`, in this order."""
    contracts = _contracts(repository)
    return [contracts["pure"], contracts["pure-arithmetic"]]


def _contracts(repository: Path) -> dict[str, dict[str, list[str]]]:
    settings = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    return {c["id"]: c for c in settings["tool"]["importlinter"]["contracts"]}


def _pure_files(repository: Path) -> list[Path]:
    """The files of the modules that these contracts name."""
    names = [name for c in _pure_contracts(repository) for name in c["source_modules"]]
    files: list[Path] = []
    for name in names:
        path = repository / name.replace(".", "/")
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return files


def _lint_imports(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command as main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "--no-logo", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
