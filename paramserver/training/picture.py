"""A figure of matplotlib that a notebook shows by itself.

Rule 1: it imports matplotlib: whoever draws imports it, nobody else.

Notebooks know how to show a `Figure` only once ``pyplot`` was imported; this one says it itself.
"""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that can be shown without ``pyplot``."""

    def _repr_png_(self) -> bytes:
        """Return what a notebook shows."""
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()
