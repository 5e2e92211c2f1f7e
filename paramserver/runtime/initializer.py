"""The function that each worker of this machine calls before it takes jobs.

The master's process writes it down once; each worker reads it, whichever takes whose place.

Rule 1: it crosses in a file of the run's private folder: only inside the local trust domain.
Rule 2: a worker that has come up has been initialized. One whose initializer raises never comes
        up: it ends with an exit code of its own (`lifeline.EXIT_NOT_INITIALIZED`).
Rule 3: what it has assigned to globals of ``__main__``, and data there that it has changed, is what
        functions of ``__main__`` find in this worker, whatever the driver has under these names.
        Nothing else stays: what a job leaves in ``__main__`` is gone with it, so that its result
        does not depend on who ran before.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

from paramserver.protocol import calls

_MISSING: Final = object()
_CODE: Final = (FunctionType, ModuleType, type)
"""Of these the driver's own count, unless they are assigned anew: a function that is defined again
in a notebook is seen by the next job."""


def initialize(path: str, *, trusted: bool) -> None:
    """Call what was written down, and keep what it leaves in ``__main__``.

    Parameters
    ----------
    path : str
        Of a file that holds what `calls.encode_initializer` has returned.
    trusted : bool
        Whether this worker is inside the local trust domain.

    Raises
    ------
    BaseException
        Whatever it raises; or what makes it unreadable here.
    """
    (fn, args, kwargs), namespaces = calls.decode_initializer(
        Path(path).read_bytes(), trusted=trusted
    )
    before = [(dict(names), _fingerprints(names)) for names in namespaces]
    fn(*args, **kwargs)
    for names, (objects, fingerprints) in zip(namespaces, before, strict=True):
        calls.keep_in_main(_changed(names, objects, fingerprints))


def _changed(
    names: dict[str, Any], objects: dict[str, Any], fingerprints: dict[str, bytes | None]
) -> dict[str, Any]:
    """Return what was assigned, and what is not as it was."""
    return {
        name: value
        for name, value in names.items()
        if not name.startswith("__")
        and (
            objects.get(name, _MISSING) is not value
            or (name in fingerprints and fingerprints[name] != _fingerprint(value))
        )
    }


def _fingerprints(names: dict[str, Any]) -> dict[str, bytes | None]:
    return {
        name: _fingerprint(value)
        for name, value in names.items()
        if not name.startswith("__") and not isinstance(value, _CODE)
    }


def _fingerprint(value: object) -> bytes | None:
    """Return a hash of all that a value holds; None where it could not travel."""
    try:
        payload = calls.encode_value(value, trusted=True)
    except Exception:  # noqa: BLE001 - the value's own code ran
        return None
    digest = hashlib.blake2b(payload.data)
    for buffer in payload.buffers:
        digest.update(buffer)
    return digest.digest()
