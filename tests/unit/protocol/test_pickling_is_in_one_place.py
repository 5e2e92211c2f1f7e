"""Only `protocol/pickling.py` unpickles, and only three modules call it: read in the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import paramserver

PACKAGE = Path(paramserver.__file__).parent
UNPICKLER = "protocol/pickling.py"
MAY_CALL_IT = {
    "protocol/calls.py",
    "protocol/failures.py",
    "joblib_tables.py",
    "joblib_results.py",
}
MAY_SEE_MSGPACK_NUMPY = {"protocol/arrays.py"}
DANGEROUS = {"pickle", "_pickle", "cPickle", "pickletools", "cloudpickle", "marshal", "shelve",
             "dill", "jsonpickle"}  # fmt: skip
"""Modules that run what bytes say."""
DANGEROUS_PARTS = {
    "joblib": {"load"}, "torch": {"load"}, "pandas": {"read_pickle"}, "pd": {"read_pickle"},
    "multiprocessing": {"connection", "managers", "Pipe", "Queue", "SimpleQueue", "Manager"},
}  # fmt: skip
"""Names in modules that are harmless otherwise."""
DANGEROUS_NAMES = {"read_pickle", "loads_pickle"}


def dangers(source: str) -> list[str]:
    """Name each place of a source that could unpickle."""
    tree = ast.parse(source)
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                found += [a.name for a in aliases if _is_dangerous(a.name)]
            case ast.ImportFrom(module=str(module), names=aliases):
                found += [module] if _is_dangerous(module) else []
                found += [
                    f"{module}.{a.name}" for a in aliases if _is_dangerous(f"{module}.{a.name}")
                ]
            case ast.Attribute() | ast.Name() if _is_dangerous(ast.unparse(node)):
                found.append(ast.unparse(node))
            case ast.Attribute(attr=name) if name in DANGEROUS_NAMES:
                found.append(name)
            case ast.Constant(value=str(text)) if text in DANGEROUS and id(node) not in texts:
                found.append(repr(text))
            case ast.keyword(arg="allow_pickle", value=value) if not (
                isinstance(value, ast.Constant) and value.value is False
            ):
                found.append("allow_pickle")
    return found


def _is_dangerous(dotted: str) -> bool:
    parts = dotted.split(".")
    if parts[0] in DANGEROUS:
        return True
    return len(parts) > 1 and parts[1] in DANGEROUS_PARTS.get(parts[0], ())


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import json, pickle as p",
        "from pickle import loads",
        "import cloudpickle.cloudpickle",
        "def f():\n    from marshal import loads",
        "from joblib import load",
        "import joblib\njoblib.load('x')",
        "from multiprocessing.connection import Client",
        "from multiprocessing import Pipe",
        "x = __import__('pickle')",
        "x = importlib.import_module('cloudpickle')",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=wish)",
        "pd.read_pickle(f)",
        "frame.read_pickle(f)",
    ],
)
def test_the_search_finds(source: str) -> None:
    assert dangers(source)


@pytest.mark.parametrize(
    "source",
    [
        "import json",
        "from paramserver.protocol.messages import PayloadKind\nx = PayloadKind.PICKLE",
        "'''pickle'''",
        "np.load(f, allow_pickle=False)",
        "from multiprocessing import shared_memory",
        "from joblib import Parallel",
    ],
)
def test_the_search_leaves_alone(source: str) -> None:
    assert not dangers(source)


def sources() -> dict[str, str]:
    return {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}


def test_one_module_of_the_package_unpickles_and_no_other() -> None:
    found = {name: dangers(source) for name, source in sources().items() if dangers(source)}

    assert set(found) == {UNPICKLER}, found


def test_four_modules_reach_the_unpickler() -> None:
    reached = {name for name, source in sources().items() if _imports(source, "pickling")}

    assert reached == MAY_CALL_IT


def test_one_module_reaches_msgpack_numpy_and_nobody_patches_it() -> None:
    reached = {name for name, source in sources().items() if _imports(source, "msgpack_numpy")}

    assert reached == MAY_SEE_MSGPACK_NUMPY
    for name in reached:
        calls = [ast.unparse(n) for n in ast.walk(ast.parse(sources()[name])) if _is_call(n)]
        assert not any("patch" in call for call in calls)


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call)


def _imports(source: str, wanted: str) -> bool:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=aliases):
                names = [alias.name for alias in aliases]
            case ast.ImportFrom(module=str(module), names=aliases):
                names = [module, *[f"{module}.{alias.name}" for alias in aliases]]
            case _:
                continue
        if any(wanted in name.split(".") for name in names):
            return True
    return False
