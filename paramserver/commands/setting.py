"""What one setting is: its default, its words in ``--help``, and what it means for a run.

Rule 1: all that is known of a setting is said where its field is declared, and nowhere else.
Rule 2: it knows no setting by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import Enum
from types import NoneType, UnionType
from typing import (
    Any,
    Final,
    NamedTuple,
    NoReturn,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from paramserver.errors import ConfigError

T = TypeVar("T")

_ABOUT: Final = "about"


class Lasts(Enum):
    """How long a setting holds."""

    ALWAYS = "always"
    """It makes the result: a run that is resumed has it, too."""
    TILL_RESUMED = "till resumed"
    """It only says when to end, and where: it may be another one when the run is resumed."""
    ONCE = "once"
    """... and it belongs to one start of the program: it is not kept."""


class Group(NamedTuple):
    """Settings that stand together in ``--help``."""

    title: str
    mode: str = ""
    """The one mode that knows them; "" for both."""


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a setting beside its name, its kind and its default.

    Attributes
    ----------
    group : Group
    metavar : str
        What stands for the value in ``--help``; "" where there is none to type, or its choices do.
    words : str
        What it means.
    lasts : Lasts
    choices : tuple of str
        All values there are; empty where these are too many.
    """

    group: Group
    metavar: str
    words: str
    lasts: Lasts = Lasts.ALWAYS
    choices: tuple[str, ...] = ()


def setting(
    default: T,
    group: Group,
    metavar: str,
    words: str,
    *,
    lasts: Lasts = Lasts.ALWAYS,
    choices: tuple[str, ...] = (),
) -> T:
    """Declare a field of a dataclass to be a setting. See `About` for the parameters."""
    about = About(group, metavar, words, lasts, choices)
    return field(default=default, metadata={_ABOUT: about})


def abouts(table: type) -> Iterator[tuple[str, About]]:
    """Yield name and meaning of each setting that a dataclass declares, in their order."""
    for each in fields(table):
        if _ABOUT in each.metadata:
            yield each.name, each.metadata[_ABOUT]


def kinds_of(table: type) -> dict[str, type]:
    """Return the type of each field of a dataclass, without "or None"."""
    hints = get_type_hints(table)
    return {each.name: _kind(hints[each.name]) for each in fields(table)}


def flag(name: str, default: object = None) -> str:
    """Return how a setting is typed on the command line: what is on by default, to turn it off.

    Examples
    --------
    >>> flag("local_steps"), flag("baseline", True)
    ('--local-steps', '--no-baseline')
    """
    return ("--no-" if default is True else "--") + name.replace("_", "-")


def refuse(name: str, value: object, words: str, source: str = "") -> NoReturn:
    """Raise ConfigError, with the setting called as it was written.

    Parameters
    ----------
    name : str
    value : object
    words : str
        The rest of the sentence that begins with the setting.
    source : str
        Where it was set: "environment", or somewhere where it is called by its flag.
    """
    said = f"PARAMSERVER_{name.upper()}" if source == "environment" else flag(name)
    raise ConfigError(f"{said} {words}", field=name, value=value)


def _kind(hint: Any) -> type:
    if get_origin(hint) is UnionType:
        hint = next(part for part in get_args(hint) if part is not NoneType)
    assert isinstance(hint, type)
    return hint
