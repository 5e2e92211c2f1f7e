"""Settings in a file: flat TOML, in and out. It knows no setting by name.

Rule 1: what is not understood is refused, with the file, the name and the nearest right one.
Rule 2: what is written reads back as the same values, to the last bit of a float.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any

from paramserver.errors import ConfigError


def read_settings(path: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Read a file of settings.

    Parameters
    ----------
    path : Path
    kinds : mapping of str to type
        What can be set, and whether it is a bool, an int, a float or a str. A float may be written
        as a whole number, a str as a number.

    Returns
    -------
    dict
        Names with ``_``, as in `kinds`; ``-`` is accepted in the file.

    Raises
    ------
    ConfigError
        If the file is not there, is no TOML, or holds what is not known or of another kind.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The settings in {path} cannot be read: {error.strerror or error}.",
            field="config",
            value=str(path),
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is no TOML file: {error}. It should hold lines such as  epochs = 20",
            field="config",
            value=str(path),
        ) from error
    settings: dict[str, Any] = {}
    for key, value in found.items():
        name = key.replace("-", "_")
        if name not in kinds:
            raise ConfigError(
                f"{path}: there is no setting '{key}'.{nearest(name, kinds)}",
                field=key,
                value=value,
            )
        if not _fits(value, kinds[name]):
            raise ConfigError(
                f"{path}: {key} must be {_WORDS[kinds[name]]}, not {value!r}.",
                field=key,
                value=value,
            )
        settings[name] = value
    return settings


def write_settings(settings: Mapping[str, Any], comments: Collection[str] = ()) -> str:
    """Return the text of a file that `read_settings` reads as `settings`.

    TOML has no word for None: such a setting becomes a comment.

    Examples
    --------
    >>> print(write_settings({"lr": 0.1, "wait_for": None, "data": "digits"}, ["of a run"]))
    # of a run
    <BLANKLINE>
    lr = 0.1
    # wait_for is not set
    data = "digits"
    <BLANKLINE>
    """
    lines = [f"# {comment}" for comment in comments]
    lines += [""] if lines else []
    for name, value in settings.items():
        lines.append(f"# {name} is not set" if value is None else f"{name} = {_literal(value)}")
    return "\n".join([*lines, ""])


def nearest(name: str, known: Collection[str]) -> str:
    """Return a sentence that helps with a name that is not known.

    Examples
    --------
    >>> nearest("epoch", ["epochs", "rounds"])
    " Did you mean 'epochs'?"
    >>> nearest("x", ["epochs", "rounds"])
    ' There are: epochs, rounds.'
    """
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else f" There are: {', '.join(sorted(known))}."


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


def _fits(value: object, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, (int, float))
    if kind is str:
        return isinstance(value, (int, float, str))
    return isinstance(value, kind)


def _literal(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float() if not isfinite(value):
            return repr(value)  # inf and nan are words of TOML, too
        case int() | float():
            return repr(value)
        case str():
            # A string of JSON is one of TOML, but for the one character that JSON leaves as it is.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    raise ConfigError(f"{value!r} cannot be written as a setting.", field="config", value=value)
