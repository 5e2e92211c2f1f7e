"""What holds for every test: nothing left behind, chance that can be replayed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import leaks

leaks.mark_this_session()

# `ci` (make test) draws the same examples each time; `local` (bare pytest) draws new ones and
# remembers the failing ones; `full` (make test-full) draws many new ones. All print how to replay.
_COMMON = {
    "deadline": None,  # the two cores are shared: a slow example says nothing
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("ci", derandomize=True, database=None, **_COMMON)
settings.register_profile("local", **_COMMON)
settings.register_profile("full", max_examples=2_000, **_COMMON)
settings.load_profile("local")


@pytest.fixture(scope="session", autouse=True)
def _session_leaves_nothing_behind() -> Iterator[None]:
    before = leaks.World.now()
    yield
    _complain("the whole run", leaks.left_behind(before))


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    before = leaks.World.now()
    yield
    _complain(request.node.nodeid, leaks.left_behind(before))


def _complain(who: str, found: list[str]) -> None:
    if found:
        pytest.fail(f"{who} has left behind:\n" + "\n".join(found), pytrace=False)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def no_lending_thread() -> Iterator[None]:
    """End the thread that pyzmq starts, once in a process, for frames lent to ZeroMQ."""
    yield
    from zmq.utils import garbage

    garbage.gc.stop()
