"""What joblib's calls give back, as pickles from workers of other machines: for who asks for that.

A fitted estimator is an object, and objects come only as pickles. To read one is to run what it
says, so that whoever may start workers may run code in the process that reads.

Rule 1: a result is packed by a worker that was told to by the call itself, which has come as code.
Rule 2: it is read only where the user of the cluster has said so, and never on the master's thread.
Rule 3: what does not have the form that `run_and_pack` gives it is refused before it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from paramserver.errors import RemoteProtocolError
from paramserver.joblib_tables import Pieces, take_apart
from paramserver.protocol import pickling


def run_and_pack(batch: Callable[[], Any]) -> Pieces:
    """Run a batch on a worker; return the pickle of what it returns, and the large arrays in it."""
    return take_apart(batch())


def unpack(pieces: object) -> Any:
    """Return what a batch has returned. Runs what the pieces say.

    Parameters
    ----------
    pieces : object
        What a worker has sent in place of a result.

    Raises
    ------
    RemoteProtocolError
        If it is no list of bytes; nothing of it has been read then.
    Exception
        Whatever the classes inside raise, or `ModuleNotFoundError` where this process does not have
        them.
    """
    if type(pieces) is not list or not pieces or not all(map(_is_bytes, pieces)):
        raise RemoteProtocolError("a worker sent a result that is no list of bytes", peer="")
    data, *buffers = (memoryview(piece) for piece in pieces)
    return pickling.loads(data, buffers)


def _is_bytes(piece: object) -> bool:
    return type(piece) is np.ndarray and piece.dtype == np.uint8 and piece.ndim == 1
