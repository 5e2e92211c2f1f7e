"""Functions by name: which of them a peer from another machine may have run here.

Rule 1: a name is ``module:qualname``; nothing is imported before the module is known to be allowed.
Rule 2: what is run was *defined* there, under exactly that name: no import of another module, no
        private name, no attribute of an object is reachable.
Rule 3: of paramserver itself only what a module lists in its ``__remote_jobs__`` is reachable.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Final

from paramserver.errors import JobFailed, LocalProtocolError

_OWN: Final = "paramserver"
_CLOSED: Final = tuple(f"{_OWN}.{name}" for name in ("protocol", "runtime", "transport", "testing"))
"""Never callable from afar, whatever they may list."""


def name_of(fn: Callable[..., Any]) -> str:
    """Return the name by which a worker on another machine finds `fn`.

    Parameters
    ----------
    fn : callable
        A function, class or static method of an importable module.

    Returns
    -------
    str
        ``module:qualname``.

    Raises
    ------
    LocalProtocolError
        If the name does not lead back to `fn`.

    Examples
    --------
    >>> import json
    >>> name_of(json.dumps)
    'json:dumps'
    """
    module_name = getattr(fn, "__module__", None)
    qualname = getattr(fn, "__qualname__", None)
    name = f"{module_name}:{qualname}"
    why = _fault_of_name(name)
    if not why:
        module = sys.modules.get(str(module_name))
        if module is None or _find(module, str(qualname)) is not fn:
            why = "that name does not lead back to it"
    if why:
        raise LocalProtocolError(
            f"{_shown(fn)} cannot be run on another machine by its name {name!r}: {why}. Put a "
            "plain function into a module that the workers can import and start them with "
            "--allow PACKAGE, or ship the code itself (ship_code=True here, --accept-code there)"
        )
    return name


def find_function(name: str, allowed: Sequence[str]) -> Callable[..., Any]:
    """Return the function of that name, importing its module, if it is allowed.

    Parameters
    ----------
    name : str
        ``module:qualname``, from a peer.
    allowed : sequence of str
        Packages whose functions may be run, with all that is below them. Those of paramserver
        that declare it always may, those of the standard library never.

    Returns
    -------
    callable

    Raises
    ------
    JobFailed
        A refusal in words, with an empty ``error_type``: which module, and what to do.
    """
    why = _fault_of_name(name)
    if why:
        raise refusal(f"it may not run {name!r:.200}: {why}")
    module_name, _, qualname = name.partition(":")
    package = module_name.partition(".")[0]
    if package == _OWN:
        if _is_below(module_name, _CLOSED):
            raise refusal(f"it may not run {name!r}: no job of paramserver lives in that module")
    elif package in sys.stdlib_module_names:
        raise refusal(
            f"it may not run {name!r}: functions of the standard library are run for no other "
            "machine, since with some of them (eval, os.system) one can run anything. Put a "
            "function of your own around it into a module that the worker can import, and start "
            "the worker with --allow THAT_MODULE"
        )
    elif not _is_below(module_name, allowed):
        raise refusal(
            f"it may not run {name!r}: its operator has not allowed that module. Start the worker "
            f"with --allow {package} if it should"
        )
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # SystemExit: a script without a main guard
        raise refusal(
            f"it cannot import {module_name!r} ({type(error).__name__}: {error}). Install it where "
            "the worker runs, or start the worker where it can be imported"
        ) from error
    if package == _OWN and qualname not in vars(module).get("__remote_jobs__", ()):
        raise refusal(f"it may not run {name!r}: the module does not list it in __remote_jobs__")
    found = _find(module, qualname)
    if found is None:
        raise refusal(
            f"{name!r} is not a function or class defined in that module, as the worker has it. "
            "Check that both sides have the same release of it"
        )
    return found


def refusal(reason: str) -> JobFailed:
    """Return the error of a worker that will not, or cannot, run a job."""
    return JobFailed(
        f"The worker refused a job: {reason}.",
        error_type="",
        traceback="",
        worker_id="",
        attempts=0,
    )


def _fault_of_name(name: str) -> str:
    """Return what is wrong with the form of a name, or ''."""
    module, _, qualname = name.partition(":")
    if "<lambda>" in qualname or "<locals>" in qualname:
        return "it is a lambda or was defined inside of a function"
    modules, parts = module.split("."), qualname.split(".")
    if not all(part.isidentifier() for part in modules + parts):
        return "that is not the name of a function in a module"
    if module == "__main__":
        return "it was defined in the script or notebook itself, which no worker can import"
    if any(part.startswith("__") for part in modules) or any(p.startswith("_") for p in parts):
        return "names with a leading underscore are private"
    return ""


def _is_below(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _find(module: ModuleType, qualname: str) -> Callable[..., Any] | None:
    """Return the function, class or static method defined in `module` as `qualname`, or None.

    It looks into the namespaces themselves and calls no `__getattr__` and no descriptor.
    """
    *owners, last = qualname.split(".")
    namespace = vars(module)
    for part in owners:
        owner = namespace.get(part)
        if not isinstance(owner, type):
            return None
        namespace = dict(vars(owner))
    found = namespace.get(last)
    if isinstance(found, staticmethod):
        found = found.__func__
    if not isinstance(found, FunctionType | BuiltinFunctionType | type):
        return None
    if found.__module__ != module.__name__ or found.__qualname__ != qualname:
        return None
    return found


def _shown(fn: object) -> str:
    return f"{getattr(fn, '__name__', None) or 'an object'} of type {type(fn).__name__}"
