"""What a live page is made of: panels, each of which can tell itself as HTML and as numbers.

Rule 1: a panel is asked from the thread of the page, at any moment: it only reads, and copies what
        others change meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from paramserver.drawing.page import Html


class Reading(NamedTuple):
    """A number for those who watch by machine (Prometheus).

    Attributes
    ----------
    name : str
        Without the prefix of the package; with its unit (``_seconds``, ``_bytes``), and ``_total``
        at the end of what only grows.
    about : str
        What it is, in a sentence.
    value : float
    labels : tuple of (str, str)
        Of few different values each.
    """

    name: str
    about: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


class Panel(Protocol):
    """A part of a live page.

    Attributes
    ----------
    name : str
        What tells it from the others: letters alone. A later panel of the same name takes the place
        of an earlier one.
    rank : int
        Panels of lower rank stand further up.
    """

    name: str
    rank: int

    def html(self) -> str:
        """Return what is to be seen now."""

    def readings(self) -> Iterable[Reading]:
        """Return the numbers as they are now."""


@runtime_checkable
class WorkerColumn(Protocol):
    """A panel that has something to say of each worker, in the table of workers.

    Attributes
    ----------
    column : str
        The name of its column.
    """

    column: str

    def cells(self) -> Mapping[str, Html]:
        """Return what stands in it now, by worker."""
