"""Learners and plans as plain data, for workers outside of the local trust domain.

Rule 1: what travels is the name of a class and the values of its fields; never code, never a
        pickle.
Rule 2: only a dataclass is made again, by its own constructor, under the name by which it was
        defined: one of paramserver's own learners and plans, or one of a package that the operator
        of the worker has allowed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, Final

import numpy as np

from paramserver.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from paramserver.protocol.functions import name_of

OWN: Final = ("paramserver.models.", "paramserver.training.", "paramserver.data.")
"""Where classes of the package are found that every worker makes."""
_KEY: Final = "paramserver class"
_PLAIN: Final = (type(None), bool, int, float, str, bytes, np.ndarray, np.generic)


def describe(value: Any, what: str) -> Any:
    """Write a value as plain data.

    Parameters
    ----------
    value : object
        A plain value, an array, a list, tuple or dict of such, or a dataclass of them.
    what : str
        What it is, for the error.

    Returns
    -------
    object
        For `protocol.calls.encode_value`, and back by `restore`.

    Raises
    ------
    ConfigError
        If something in it cannot be described; it names it and says what to do.
    """
    if isinstance(value, _PLAIN):
        return value
    if type(value) in (list, tuple):
        return type(value)(describe(each, what) for each in value)
    if type(value) is dict:
        return {key: describe(each, what) for key, each in value.items()}
    kind = type(value)
    if not is_dataclass(value):
        raise ConfigError(
            f"{what} holds a {kind.__module__}.{kind.__qualname__}, which cannot be sent to "
            "workers on other machines: make the learner a dataclass whose fields are numbers, "
            "strings and arrays, in a module that the workers have, or ship its code "
            "(ship_code=True here, --accept-code there).",
            field=what,
            value=kind.__qualname__,
        )
    try:
        name = name_of(kind)
    except LocalProtocolError as error:
        raise ConfigError(
            f"{what} is of a class that workers on other machines cannot find: {error}.",
            field=what,
            value=kind.__qualname__,
        ) from error
    inside = {f.name: describe(getattr(value, f.name), what) for f in fields(value) if f.init}
    return {_KEY: name, "fields": inside}


def restore(value: Any, find: Callable[[str], Any]) -> Any:
    """Undo `describe`.

    Parameters
    ----------
    value : object
        From a peer.
    find : callable
        Returns the class of that name (``module:qualname``) if this worker may use it, and raises
        a refusal in words otherwise; `runtime.context.JobContext.function` is one.

    Raises
    ------
    RemoteProtocolError
        If it is none of `describe`'s.
    JobFailed
        If a class is not allowed or not there.
    """
    if type(value) in (list, tuple):
        return type(value)(restore(each, find) for each in value)
    if type(value) is not dict:
        return value
    if _KEY not in value:
        return {key: restore(each, find) for key, each in value.items()}
    name, inside = value[_KEY], value.get("fields")
    if type(name) is not str or type(inside) is not dict:
        raise RemoteProtocolError("a description has no name of a class, or no fields", peer="")
    kind = _find_own(name) if name.startswith(OWN) else find(name)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise RemoteProtocolError(f"{name!r:.200} is no dataclass", peer="")
    if not {f.name for f in fields(kind) if f.init} >= inside.keys():
        raise RemoteProtocolError(
            f"{name} has other fields here: install the same release on both sides", peer=""
        )
    return kind(**{key: restore(each, find) for key, each in inside.items()})


def _find_own(name: str) -> Any:
    """Return a class that one of our own modules has defined."""
    module_name, _, qualname = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), qualname]):
        raise RemoteProtocolError(f"{name!r:.200} is not the name of a class", peer="")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise RemoteProtocolError(
            f"{module_name!r:.200} cannot be imported here ({error}): install the same release, "
            "with the same extras, on both sides",
            peer="",
        ) from error
    kind = vars(module).get(qualname)
    return kind if getattr(kind, "__module__", None) == module_name else None
