"""All panels of a cluster, asked together. It never fails, and asks no more often than it must.

Rule 1: a panel that fails costs its own place on the page, which says so; the others are shown.
Rule 2: however many look, a panel is asked once in `FRESH_S`, and one that takes long to draw more
        seldom: so that drawing it takes no more than one part in `SPARING` of a core.
Rule 3: it is used by one thread, that of the server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from paramserver.drawing.page import html
from paramserver.drawing.panel import Panel, Reading

LOGGER = logging.getLogger("paramserver")

FRESH_S: Final = 0.8
"""What was asked so long ago is told again without asking."""
SPARING: Final = 400
"""How many times as long as its last drawing took a panel is left alone; with the three or four
panels there are, a page costs less than 1 % of a core ..."""
SELDOM_S: Final = 10.0
"""... but never longer than this."""


class Drawn(NamedTuple):
    """What a panel has shown last."""

    panel: Panel
    html: str
    until: float
    """When it is to be asked again."""


class Board:
    """The panels of one cluster.

    Parameters
    ----------
    panels : sequence of Panel
        Others may append to it meanwhile.
    clock : callable
        Monotonic seconds.
    cost : callable
        Seconds of a processor that this thread has taken.
    """

    def __init__(
        self,
        panels: Sequence[Panel],
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.thread_time,
    ) -> None:
        self._panels = panels
        self._clock = clock
        self._cost = cost
        self._drawn: dict[str, Drawn] = {}
        self._complained: set[str] = set()

    def parts(self) -> dict[str, str]:
        """Return the HTML of each panel by its name, in the order in which they stand."""
        self._drawn = {panel.name: self._latest(panel) for panel in self._in_order()}
        return {name: drawn.html for name, drawn in self._drawn.items()}

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

    def _latest(self, panel: Panel) -> Drawn:
        drawn = self._drawn.get(panel.name)
        if drawn is not None and drawn.panel is panel and self._clock() < drawn.until:
            return drawn
        began = self._cost()
        text = self._html(panel)
        rest_s = min(SELDOM_S, SPARING * (self._cost() - began))
        return Drawn(panel, text, self._clock() + max(FRESH_S, rest_s))

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
