"""A run as a notebook shows it."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from paramserver.observe.events import Progressed, RunStarted
from paramserver.observe.notebook import KEPT, WORDS_MAX, NotebookView, is_notebook, render


def started(mode: str = "avg") -> RunStarted:
    return RunStarted(
        version="1", mode=mode, model="<soft&max>", data="digits", n_workers=2, n_partitions=3,
        n_examples=1000, n_features=4, n_parameters=5, total=20.0, host="here", pid=7,
    )  # fmt: skip


def progressed(unit: int, score: float | None = 0.75) -> Progressed:
    return Progressed(
        unit=unit, epochs=float(unit), wall_s=unit / 10, train_loss=1.0 / unit, test_score=score,
        n_workers=2,
    )  # fmt: skip


class FakeIPython:
    """Takes down what would be shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def HTML(self, page: str) -> str:
        return page

    def display(self, page: str, display_id: bool) -> Any:
        assert display_id
        self.shown.append(page)
        return SimpleNamespace(update=self.shown.append)


@pytest.fixture
def ipython(monkeypatch: pytest.MonkeyPatch) -> FakeIPython:
    fake = FakeIPython()
    module = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1))
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    return fake


def test_a_page_is_well_formed_and_says_all_figures() -> None:
    page = render(started(), progressed(10), [progressed(i) for i in range(1, 11)], ["a < b"])
    text = " ".join("".join(ET.fromstring(page).itertext()).split())
    assert "<soft&max> · avg, 3 partitions" in text
    for figure in ("rounds10", "epochs10.0", "seconds1.0", "loss0.1000", "held-out0.7500"):
        assert figure in text
    assert "examples/s10,000" in text
    assert "a < b" in text
    assert page.count("<polyline") == 2
    assert "width:50.0%" in page


def test_the_figures_of_a_run_that_diverges_stay_short() -> None:
    wild = replace(progressed(10), train_loss=1.5e30, test_score=-2e8)
    page = render(started(), wild, [wild], [])
    assert ("<div>1.50e+30</div>" in page, "<div>-2.00e+08</div>" in page) == (True, True)


def test_without_a_score_there_is_one_curve_and_before_the_first_look_none() -> None:
    points = [progressed(i, None) for i in (1, 2)]
    assert render(started("async"), points[-1], points, []).count("<polyline") == 1
    assert "begins" in render(started(), None, [], [])


def test_of_many_words_the_latest_are_shown(ipython: FakeIPython) -> None:
    view = NotebookView()
    view.begin(started())
    for number in range(WORDS_MAX + 5):
        view.say(f"worker {number} is lost")
    page = ipython.shown[-1]
    assert page.count("is lost") == WORDS_MAX
    assert ("5 lines before these" in page, "worker 4 is" in page) == (True, False)
    view.begin(started())
    assert "lost" not in ipython.shown[-1]
    assert "lines before" not in ipython.shown[-1]


def test_one_place_is_updated_and_its_last_state_is_the_last_figures(ipython: FakeIPython) -> None:
    view = NotebookView()
    view.begin(started())
    for i in range(1, 10 * KEPT):
        view.show(progressed(i))
    view.say("worker local-1 is lost")
    view.close()
    assert len(ipython.shown) < 30
    assert "3,999" in ipython.shown[-1]
    assert "worker local-1 is lost" in ipython.shown[-1]
    assert len(ipython.shown[-1]) < 30_000


def test_a_notebook_is_told_from_a_shell(
    ipython: FakeIPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_notebook()
    monkeypatch.setitem(
        sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace())
    )
    assert not is_notebook()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not is_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not is_notebook()
