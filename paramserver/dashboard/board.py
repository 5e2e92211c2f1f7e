"""All panels of a cluster, asked together. It never fails, and asks no more often than it must.

Rule 1: a panel that fails costs its own place on the page, which says so; the others are shown.
Rule 2: however many look, the panels are asked once in `FRESH_S`.
Rule 3: it is used by one thread, that of the server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from paramserver.drawing.page import html
from paramserver.drawing.panel import Panel, Reading

LOGGER = logging.getLogger("paramserver")

FRESH_S: Final = 0.8
"""What was asked so long ago is told again without asking."""


class Board:
    """The panels of one cluster.

    Parameters
    ----------
    panels : sequence of Panel
        Others may append to it meanwhile.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self, panels: Sequence[Panel], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._panels = panels
        self._clock = clock
        self._parts: dict[str, str] = {}
        self._asked_at = float("-inf")
        self._complained: set[str] = set()

    def parts(self) -> dict[str, str]:
        """Return the HTML of each panel by its name, in the order in which they stand."""
        now = self._clock()
        if now - self._asked_at >= FRESH_S:
            self._parts = {panel.name: self._html(panel) for panel in self._in_order()}
            self._asked_at = self._clock()
        return self._parts

    def readings(self) -> list[Reading]:
        """Return the numbers of all panels."""
        found: list[Reading] = []
        for panel in self._in_order():
            try:
                found += list(panel.readings())
            except Exception as error:  # noqa: BLE001 - rule 1
                self._complain(panel, error)
        return found

    def _in_order(self) -> Iterable[Panel]:
        latest = {panel.name: panel for panel in list(self._panels)}
        return sorted(latest.values(), key=lambda panel: panel.rank)

    def _html(self, panel: Panel) -> str:
        try:
            return panel.html()
        except Exception as error:  # noqa: BLE001 - rule 1
            self._complain(panel, error)
            why = html(f"{type(error).__name__}: {error}")
            return f'<p class="about">{html(panel.name)} cannot be shown now ({why}).</p>'

    def _complain(self, panel: Panel, error: Exception) -> None:
        if panel.name not in self._complained:  # once, not each second
            self._complained.add(panel.name)
            LOGGER.warning("The dashboard cannot show %s: %s", panel.name, error)
