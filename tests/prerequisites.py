"""What `make test-full` needs beyond a bare machine; names what is missing, and how to get it.

Run as a script it exits with 69 (EX_UNAVAILABLE) where something is missing: the tests marked
`full` fail there, and are never skipped. Whoever writes such a test adds to the table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import psutil


class Prerequisite(NamedTuple):
    """One thing that must be there."""

    what: str
    for_what: str
    remedy: str
    is_there: Callable[[], bool]


def _has_command(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


def _may_make_namespaces(kind: str) -> Callable[[], bool]:
    def may() -> bool:
        if shutil.which("unshare") is None:
            return False
        return subprocess.run(["unshare", kind, "true"], capture_output=True).returncode == 0

    return may


def _has_memory() -> bool:
    return psutil.virtual_memory().available > 4e9


def _has_disk() -> bool:
    return shutil.disk_usage(tempfile.gettempdir()).free > 4e9


PREREQUISITES = (
    Prerequisite(
        "the command `ip`",
        "master and workers in network namespaces",
        "apt-get install iproute2",
        _has_command("ip"),
    ),
    Prerequisite(
        "the right to make network namespaces",
        "master and workers in network namespaces",
        "run as root (a container needs CAP_SYS_ADMIN and CAP_NET_ADMIN)",
        _may_make_namespaces("--net"),
    ),
    Prerequisite(
        "the right to make mount namespaces",
        "workers that do not see the master's folders",
        "run as root (a container needs CAP_SYS_ADMIN)",
        _may_make_namespaces("--mount"),
    ),
    Prerequisite(
        "the command `chromium`",
        "the dashboard in a real browser",
        "apt-get install chromium",
        _has_command("chromium"),
    ),
    Prerequisite(
        "4 GB of free memory", "the soak and the large word counts", "end something", _has_memory
    ),
    Prerequisite(
        f"4 GB of free disk in {tempfile.gettempdir()}",
        "the soak and the large word counts",
        "set TMPDIR to a folder with more room",
        _has_disk,
    ),
)


def missing(prerequisites: tuple[Prerequisite, ...] = PREREQUISITES) -> list[str]:
    """Say of each thing that is not there what it is for and how to get it."""
    return [
        f"missing: {p.what} (for {p.for_what}); {p.remedy}"
        for p in prerequisites
        if not p.is_there()
    ]


if __name__ == "__main__":
    complaints = missing()
    print("\n".join(complaints), file=sys.stderr, end="\n" if complaints else "")
    sys.exit(os.EX_UNAVAILABLE if complaints else os.EX_OK)
