"""Several sessions of pytest share the tests of one run: ``pytest -p tests.sharing``.

Rule 1: a module is run as a whole, by the session that comes to it first; to the others it is as if
        it were not there.
Rule 2: who was first is told by the file system: one file for each module in the folder that all of
        them find in the environment (`FOLDER`; `side_by_side.py` makes it). Without it a session
        runs everything.
Rule 3: the longest modules come first, so that at the end no session waits long for another.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = "SHARED_TESTS"
LONGEST = (
    "tests/numerics/test_parity.py",
    "tests/simulation/test_random_runs.py",
    "tests/simulation/test_main_job.py",
    "tests/test_docs.py",
    "tests/conformance/test_estimators.py",
    "tests/conformance/test_joblib.py",
    "tests/integration/test_train_command.py",
    "tests/integration/test_resume_killed.py",
    "tests/integration/test_failures.py",
    "tests/integration/test_training.py",
    "tests/integration/test_benchmarks.py",
    "tests/integration/test_cluster_lifecycle.py",
    "tests/integration/test_transport_security.py",
    "tests/test_examples.py",
    "tests/integration/test_remote.py",
    "tests/unit/estimators/test_side_by_side.py",
    "tests/test_notebooks.py",
)
"""Each takes more than ten seconds on an idle machine; the first three take minutes with `full`."""


class Share:
    """The modules that this session runs.

    Parameters
    ----------
    folder : Path
        Where those that somebody has begun are noted.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_ours: dict[str, bool] = {}

    def takes(self, module: str) -> bool:
        """Say whether this session runs a module: it does if nobody has begun it before."""
        if module not in self._is_ours:
            self._is_ours[module] = self._claim(module.replace("/", "+"))
        return self._is_ours[module]

    def _claim(self, name: str) -> bool:
        try:
            (self._folder / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    @pytest.hookimpl(trylast=True)  # after the order was drawn
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the longest modules in front."""
        items.sort(key=lambda item: _module(item) not in LONGEST)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run what is ours, as pytest's own loop runs everything.

        Each test is told which one is next, for that says which fixtures have to end; so a module
        is begun, for the others, one test early.
        """
        if session.testsfailed or session.config.option.collectonly:
            return None  # what could not be collected: pytest says so
        ours = (item for item in session.items if self.takes(_module(item)))
        item = next(ours, None)
        while item is not None:
            following = next(ours, None)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
            item = following
        return True


def pytest_configure(config: pytest.Config) -> None:
    """Share with others, where there is a folder for that."""
    if folder := os.environ.get(FOLDER):
        config.pluginmanager.register(Share(Path(folder)))


def _module(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
