"""Any Python value as bytes, inside the local trust domain. The ONLY module that unpickles.

Rule 1: no other module of the package names pickle, cloudpickle, marshal or the like; a test reads
        the sources and proves it.
Rule 2: `loads` runs what the bytes say. Only `calls.py` and `failures.py` call it, after the check
        that the connection is trusted, or that both sides asked for shipped code;
        `joblib_tables.py`, inside of a call that was read so; and `joblib_results.py`, where the
        user has said that what workers give back may be read.
Rule 3: what belongs to ``__main__`` travels by value, since the worker has another ``__main__``.
        Its functions get a namespace for each pickle: nothing stays in it from one to the next,
        but the names that `keep_in_main` was told.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from paramserver.errors import LocalProtocolError
from paramserver.protocol.limits import PAYLOAD_BUFFERS
from paramserver.protocol.messages import Buffer

SMALL_BUFFER_BYTES: Final = 4096
"""Below this an array stays inside the pickle: a copy is cheaper than a frame."""
_ATOMS: Final = frozenset((type(None), bool, int, float, complex, str, bytes))
"""Whatever is of these types holds no array, and nothing of ``__main__``."""

_kept_in_main: dict[str, Any] = {}
"""Of a process, as ``__main__`` itself is; filled in workers alone, which have one master each."""


def dumps(value: object, *, what: str = "", aside: bool = True) -> tuple[bytes, tuple[Buffer, ...]]:
    """Pickle a value, large arrays aside.

    Parameters
    ----------
    value : object
    what : str, optional
        What the value is, for the error; by default it is named by its type.
    aside : bool, default True
        False keeps everything in `data`, which is a copy then.

    Returns
    -------
    data : bytes
        Pickle protocol 5.
    buffers : tuple of memoryview
        The large contiguous pieces, not copied: they must not change until they are sent.

    Raises
    ------
    LocalProtocolError
        If the value cannot be pickled; the error names its type and the reason.

    Notes
    -----
    Any thread may call it. About 2 us for a small call. The pickler in C goes first; where it
    fails (a lambda, a local function), or where the result mentions ``__main__``, however deep,
    cloudpickle does it again by value.
    """
    if type(value) in _ATOMS:
        return pickle.dumps(value, 5), ()
    return _dumps_by_name(value, aside) or _dumps_by_value(value, what, aside)


def loads(data: Buffer, buffers: Sequence[Buffer] = (), *, in_place: bool = False) -> Any:
    """Unpickle what `dumps` made. Runs what the bytes say: only for bytes of a trusted peer.

    Parameters
    ----------
    data : bytes-like
    buffers : sequence of bytes-like
        Those that are read-only are copied, so that an array which was writable when it was sent
        is the receiver's own and writable again, as it would be from the standard executors.
    in_place : bool, default False
        Copy none: what lies in read-only memory is read-only.

    Raises
    ------
    Exception
        Whatever the classes inside raise, or `ModuleNotFoundError` and `AttributeError` where this
        process does not have them.
    """
    own = buffers
    if buffers and not in_place:
        own = [bytearray(b) if memoryview(b).readonly else b for b in buffers]
    if _kept_in_main:
        return _MainUnpickler(data, own).load()
    return pickle.loads(data, buffers=own)


def loads_with_main(data: Buffer) -> tuple[Any, list[dict[str, Any]]]:
    """Unpickle what `dumps` made without anything aside; see `loads`.

    Returns
    -------
    value : object
    namespaces : list of dict
        Those that its functions of ``__main__`` have for globals: one, or none.
    """
    unpickler = _MainUnpickler(data, ())
    return unpickler.load(), unpickler.main.namespaces


def keep_in_main(names: Mapping[str, Any]) -> None:
    """Let functions of ``__main__`` that are unpickled from now on find these in their globals.

    They come before what the pickle says of these names.
    """
    _kept_in_main.update(names)


class _MainUnpickler(pickle.Unpickler):
    """Fills the namespaces of functions of ``__main__`` with what is kept for them."""

    def __init__(self, data: Buffer, buffers: Sequence[Buffer]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self.main = _Main()

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if name == "_make_function" and module.startswith("cloudpickle."):
            return partial(self.main.make_function, found)
        return found

    def load(self) -> Any:
        value = super().load()
        self.main.fill()  # again: the pickle has had its say meanwhile
        return value


class _Main:
    """What one pickle makes of ``__main__``. Not a part of its unpickler, whose memory would hold
    on to itself by it, and to all that was unpickled."""

    def __init__(self) -> None:
        self.namespaces: list[dict[str, Any]] = []

    def make_function(
        self, make: Callable[..., Any], code: Any, namespace: dict[str, Any], *rest: Any
    ) -> Any:
        """Make a function as cloudpickle does, and take note of its globals."""
        is_main = namespace.get("__name__") == "__main__"
        if is_main and not any(known is namespace for known in self.namespaces):
            self.namespaces.append(namespace)
            self.fill()  # what is unpickled on the way may run it
        return make(code, namespace, *rest)

    def fill(self) -> None:
        for namespace in self.namespaces:
            namespace.update(_kept_in_main)


def _dumps_by_name(value: object, aside: bool) -> tuple[bytes, tuple[Buffer, ...]] | None:
    buffers: list[Buffer] = []
    try:
        data = pickle.dumps(value, 5, buffer_callback=_collector(buffers) if aside else None)
    except Exception:  # noqa: BLE001 - the value's own code ran; cloudpickle tries, and tells why
        return None
    return None if b"__main__" in data else (data, tuple(buffers))


def _dumps_by_value(value: object, what: str, aside: bool) -> tuple[bytes, tuple[Buffer, ...]]:
    import cloudpickle  # late: 20 ms that jobs of importable functions never need

    buffers: list[Buffer] = []
    try:
        data = cloudpickle.dumps(value, 5, _collector(buffers) if aside else None)
    except Exception as error:
        kind = type(value)
        what = what or f"a value of type {kind.__module__}.{kind.__qualname__}"
        raise LocalProtocolError(
            f"{what} cannot be pickled ({type(error).__name__}: {error}): locks, open files, "
            "sockets and generators do not travel; make them inside the function, or send what "
            "they are made from"
        ) from error
    return data, tuple(buffers)


def _collector(buffers: list[Buffer]) -> Callable[[pickle.PickleBuffer], bool]:
    def collect(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < SMALL_BUFFER_BYTES or len(buffers) >= PAYLOAD_BUFFERS:
            return True  # stay inside
        buffers.append(view)
        return False

    return collect
