"""Errors on a page: each with its traceback, once. Values in, HTML out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from paramserver.drawing.page import html, section

LINE_MAX: Final = 200


class Raised(Protocol):
    """An error, and how often it was raised; see `runtime.troubles.Trouble`."""

    @property
    def error(self) -> str:
        """Its type, and what it says."""

    @property
    def traceback(self) -> str:
        """Where it was raised; may be empty."""

    @property
    def worker_id(self) -> str:
        """Where it was raised last; may be empty."""

    @property
    def n(self) -> int:
        """How often."""


def errors_section(raised: Sequence[Raised], n_others: int = 0) -> str:
    """Return what jobs have raised; nothing for nothing.

    Parameters
    ----------
    raised : sequence of Raised
    n_others : int
        Errors of other kinds, that are not told apart.
    """
    if not raised:
        return ""
    drawn = [_drawn(trouble) for trouble in raised]
    if n_others:
        drawn.append(f'<p class="about">{n_others:,} more, of other kinds.</p>')
    about = (
        "What jobs have raised on the workers, each traceback once. Jobs of a training or a "
        "map-reduce are tried again, up to a limit."
    )
    return section("Errors", about, "".join(drawn))


def _drawn(trouble: Raised) -> str:
    often = "once" if trouble.n == 1 else f"{trouble.n:,} times"
    where = f"{often}, last on {trouble.worker_id}" if trouble.worker_id else often
    trace = ""
    if trouble.traceback:
        trace = (
            f'<pre class="trace" tabindex="0"><code>{html(trouble.traceback.rstrip())}</code></pre>'
        )
    return (
        f'<p class="raised"><b class="bad">{html(_line(trouble.error))}</b> '
        f'<span class="soft">{html(where)}</span></p>{trace}'
    )


def _line(error: str) -> str:
    line = next(iter(error.strip().splitlines()), "an error without words")
    return line if len(line) <= LINE_MAX else f"{line[: LINE_MAX - 1]}…"
