"""What an examination finds, and how it is printed: findings in, lines and an exit code out.

Rule 1: a finding is a fact first; a piece of advice only where there is something to do.
Rule 2: what is broken ends in exit code 1; what is merely absent does not.
Rule 3: it is printed as it comes, in letters and colours that the place it goes to can show.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, TextIO

LABEL_WIDTH: Final = 15
LEAST_WIDTH, MOST_WIDTH = 60, 100


class State(Enum):
    """What a finding is, with its mark, the mark in ASCII, and its colour in a terminal."""

    GOOD = ("✓", " ", "32")
    ADVISED = ("!", "!", "33")
    ABSENT = ("·", "-", "2")
    BROKEN = ("✗", "x", "31")


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    label, text : str
    advice : str
        What to do; empty where nothing is.
    is_broken : bool
        Whether paramserver cannot work like this.
    is_absent : bool
        Whether it could be there, and is not needed.
    group : str
        The heading that it stands under.
    """

    label: str
    text: str
    advice: str = ""
    is_broken: bool = False
    is_absent: bool = False
    group: str = ""

    @property
    def state(self) -> State:
        """How it is marked."""
        if self.is_broken:
            return State.BROKEN
        if self.is_absent:
            return State.ABSENT
        return State.ADVISED if self.advice else State.GOOD


def report(findings: Iterator[Finding], file: TextIO) -> int:
    """Print findings as they come; return the exit code."""
    n_broken = n_advised = 0
    group = ""
    for found in findings:
        n_broken += found.is_broken
        n_advised += found.state is State.ADVISED
        if found.group != group:
            group = found.group
            print(f"\n{_in_colour(group, '1', file)}", file=file)
        for line in _lines(found, file):
            print(line, file=file, flush=True)
    if n_broken:
        mark, colour = _mark(State.BROKEN, file), State.BROKEN.value[2]
        last = _in_colour(f"{n_broken} of these must be mended: see {mark} above.", colour, file)
    elif n_advised:
        pieces = f"{n_advised} {'piece' if n_advised == 1 else 'pieces'} of advice"
        last = f"All that paramserver needs is there, with {pieces}: see ! above."
    else:
        last = "All that paramserver needs is there. Next:  paramserver train --mode avg"
    print(f"\n{last}", file=file)
    return 1 if n_broken else 0


def _lines(found: Finding, file: TextIO) -> Iterator[str]:
    """Yield a finding as it is printed: a mark, a label, and words that go on below themselves."""
    mark, colour = _mark(found.state, file), found.state.value[2]
    width = min(MOST_WIDTH, max(LEAST_WIDTH, shutil.get_terminal_size().columns))
    indent = 2 + LABEL_WIDTH
    wrapped = textwrap.wrap(
        found.text, width - indent, break_long_words=False, break_on_hyphens=False
    ) or [""]
    yield f"{_in_colour(mark, colour, file)} {found.label:<{LABEL_WIDTH}}{wrapped[0]}".rstrip()
    for more in wrapped[1:]:
        yield f"{'':{indent}}{more}"
    if found.advice:
        advice = textwrap.wrap(found.advice, width - indent - 3, break_long_words=False)
        for number, line in enumerate(advice):
            yield f"{'':{indent}}{'   ' if number else '-> '}{_in_colour(line, colour, file)}"


def _in_colour(text: str, colour: str, file: TextIO) -> str:
    """Return text in a colour, in a terminal whose user has not forbidden it (no-color.org)."""
    if not file.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def _mark(state: State, file: TextIO) -> str:
    """Return the mark of a state that the file can print."""
    pretty, plain, _ = state.value
    try:
        pretty.encode(file.encoding or "utf-8")
    except UnicodeEncodeError:
        return plain
    return pretty
