"""Parts of a page as HTML: its frame, figures, tables, lists. Values in, text out.

Rule 1: text is escaped here, once; what is HTML already comes as `Html`.
Rule 2: a page is one file: its style is inside, and it loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Final

STYLE: Final = "page.css"


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def html(value: object) -> Html:
    """Return a value as HTML."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def page(title: str, body: str, *, head: str = "") -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
    body : str
        HTML.
    head : str
        HTML to add to the head.
    """
    style = files("paramserver.drawing").joinpath(STYLE).read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n{head}</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, about: str, inner: str) -> str:
    """Return a part of a page under a heading, with a line that says how to read it."""
    line = f'<p class="about">{html(about)}</p>' if about else ""
    return f"<section>\n<h2>{html(title)}</h2>\n{line}\n{inner}\n</section>\n"


def figures(pairs: Iterable[tuple[str, object, str]]) -> str:
    """Return large figures side by side.

    Parameters
    ----------
    pairs : iterable of (name, value, unit)
    """
    cells = "".join(
        f"<div><dt>{html(name)}</dt><dd>{html(value)}"
        f"{f' <small>{html(unit)}</small>' if unit else ''}</dd></div>"
        for name, value, unit in pairs
    )
    return f'<dl class="figures">{cells}</dl>\n'


def figure(title: str, what: str, picture: str, caption: str = "") -> str:
    """Return a picture with its title, and `what` of it is shown in a softer voice."""
    below = f"<figcaption>{html(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{html(title)} <span>{html(what)}</span></h3>{picture}{below}</figure>\n"


def table(
    names: Sequence[str], rows: Iterable[Sequence[object]], *, left: Sequence[int] = (0,)
) -> str:
    """Return a table that scrolls by itself where it is too wide.

    Parameters
    ----------
    names : sequence of str
    rows : iterable of sequences
    left : sequence of int
        Columns of words, which stand at the left; numbers stand at the right.
    """
    head = "".join(
        f'<th{_at_left(i, left)} scope="col">{html(name)}</th>' for i, name in enumerate(names)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{_at_left(i, left)}>{html(cell)}</td>" for i, cell in enumerate(row))
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>'
        "</table></div>\n"
    )


def settings(pairs: Iterable[tuple[str, object]]) -> str:
    """Return names and values in columns."""
    items = "".join(
        f"<div><dt>{html(name)}</dt><dd>{html(value)}</dd></div>\n" for name, value in pairs
    )
    return f'<dl class="settings">\n{items}</dl>\n'


def _at_left(i: int, left: Sequence[int]) -> str:
    return ' class="left"' if i in left else ""
