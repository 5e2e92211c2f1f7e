"""Nothing is decided by the wall clock, which may jump: it is only shown."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

SHOWING = ("commands", "dashboard", "drawing", "observe")
"""Parts of the package that tell, and decide nothing that a cluster or a training does."""
SHOWN = {"runtime/agent_process.py": {"strftime"}}
"""In front of the lines of an agent's story."""
WALL = {"time", "time_ns", "localtime", "gmtime", "strftime", "ctime"}


def readings(source: str) -> set[str]:
    """Return what of the wall clock a module can read."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "time" and node.attr in WALL:
                found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found |= {alias.name for alias in node.names} & WALL
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            names = [module] if module else [alias.name for alias in node.names]
            found |= {"datetime"} & set(names)
    return found


def test_only_what_is_shown_is_read_from_the_wall_clock(repository: Path) -> None:
    package = repository / "paramserver"
    found: dict[str, set[str]] = defaultdict(set)
    for path in package.rglob("*.py"):
        place = path.relative_to(package)
        if place.parts[0] in SHOWING:
            continue
        if names := readings(path.read_text(encoding="utf-8")):
            found[place.as_posix()] = names
    assert found == SHOWN


def test_a_reading_of_the_wall_clock_is_found() -> None:
    assert readings("import time\ntime.monotonic()\ntime.time()") == {"time"}
    assert readings("from time import perf_counter, time_ns") == {"time_ns"}
    assert readings("from datetime import datetime") == readings("import datetime") == {"datetime"}
