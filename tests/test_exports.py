"""What `import paramserver` offers: every public name is there, documented, and costs little."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import paramserver

HEAVY = ("numpy", "scipy", "sklearn", "zmq", "msgpack", "numba", "pandas", "rich", "typer")


def test_all_names_are_listed_once_and_can_be_imported() -> None:
    names = paramserver.__all__
    assert len(names) == len(set(names))
    for name in names:
        assert getattr(paramserver, name) is not None, name


def test_what_is_seen_is_what_is_offered() -> None:
    """Completion in a notebook shows the public names, lazy ones included, and nothing else."""
    seen = {name for name in dir(paramserver) if not name.startswith("_")}
    modules = {name for name in seen if inspect.ismodule(getattr(paramserver, name))}
    assert seen - modules == {name for name in paramserver.__all__ if not name.startswith("_")}


def test_an_unknown_name_raises_like_that_of_any_module() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LocalClustre'"):
        paramserver.LocalClustre  # noqa: B018


def test_every_public_name_and_method_is_documented() -> None:
    undocumented = []
    for name in paramserver.__all__:
        thing = getattr(paramserver, name)
        if not (inspect.isclass(thing) or inspect.isroutine(thing)):
            continue
        if not inspect.getdoc(thing):
            undocumented.append(name)
        if inspect.isclass(thing):
            undocumented += [
                f"{name}.{attribute}"
                for attribute, member in vars(thing).items()
                if not attribute.startswith("_")
                and (inspect.isroutine(member) or isinstance(member, property))
                and not inspect.getdoc(getattr(thing, attribute))
            ]
    assert undocumented == []


def test_importing_the_package_imports_nothing_heavy() -> None:
    """In a process of its own, for here everything is imported already."""
    program = "import sys, paramserver; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "paramserver" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_every_module_opens_with_its_law(repository: Path) -> None:
    lawless = [
        str(path.relative_to(repository))
        for path in sorted((repository / "paramserver").rglob("*.py"))
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert lawless == []
