"""Keys, and who is let in by them: CURVE on every TCP connection.

Rule 1: secrets live in files of mode 0600; never on a command line, in a log or in a repr.
Rule 2: fail closed: a connection whose key nobody has vouched for moves no message.
Rule 3: both sides prove themselves: the worker knows the master's key before it says a word.

A folder of keys, made by `make_keys`, holds four files: ``master.secret`` and ``worker.public``
are the master's half, ``worker.secret`` and ``master.public`` the worker's. All workers of a
cluster show the same key; who they are in particular is settled above, by tokens.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq
from zmq.utils import z85

from paramserver.errors import AuthenticationFailed, ConfigError

WORKER_USER: Final = "worker"
"""The user that a connection with the worker's key has proven to be."""

_DOMAIN: Final = b"paramserver"
_TAG: Final = "curve-z85:"
_ROLES: Final = {
    "master": "Whoever can read the secret one can pose as the master.",
    "worker": "Whoever can read the secret one can join as a worker.",
}


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """The master's half of a folder of keys. Keys are in Z85, 40 characters each."""

    folder: str
    secret: bytes = field(repr=False)
    public: bytes
    users: Mapping[bytes, str]
    """Public keys that are let in, and the user each stands for."""


@dataclass(frozen=True, slots=True)
class WorkerKeys:
    """The worker's half of a folder of keys. Keys are in Z85, 40 characters each."""

    folder: str
    secret: bytes = field(repr=False)
    public: bytes
    master_public: bytes

    def apply_to(self, socket: zmq.Socket[bytes]) -> None:
        """Make a socket show these keys, and insist on the master's."""
        socket.set(zmq.CURVE_SECRETKEY, self.secret)
        socket.set(zmq.CURVE_PUBLICKEY, self.public)
        socket.set(zmq.CURVE_SERVERKEY, self.master_public)


def make_keys(folder: str | os.PathLike[str]) -> Path:
    """Make new keys for a master and its workers.

    Parameters
    ----------
    folder : path-like
        Made with mode 0700 where it does not exist.

    Returns
    -------
    Path
        The folder; it holds four new files of mode 0600.

    Raises
    ------
    ConfigError
        If there are keys already (nothing is overwritten), or others can enter the folder.
    """
    place = Path(folder)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = place.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigError(
            f"Other users can enter {place}, so no secret is put there; type: chmod 700 {place}",
            field="folder",
            value=str(place),
        )
    names = [f"{role}.{part}" for role in _ROLES for part in ("secret", "public")]
    there = [name for name in names if os.path.lexists(place / name)]
    if there:
        raise ConfigError(
            f"{place} holds keys already ({', '.join(there)}), and they are not overwritten: "
            "choose another folder, or delete those that are out of use.",
            field="folder",
            value=str(place),
        )
    for role in _ROLES:
        public, secret = zmq.curve_keypair()
        _write_key(place, role, "secret", secret)
        _write_key(place, role, "public", public)
    return place


def load_master_keys(folder: str | os.PathLike[str]) -> MasterKeys:
    """Read ``master.secret`` and ``worker.public``.

    Raises
    ------
    AuthenticationFailed
        If a file is missing, is no key, or a secret can be read by others.
    """
    place = Path(folder)
    secret = _read_key(place, "master", "secret")
    worker = _read_key(place, "worker", "public")
    return MasterKeys(str(place), secret, zmq.curve_public(secret), {worker: WORKER_USER})


def load_worker_keys(folder: str | os.PathLike[str]) -> WorkerKeys:
    """Read ``worker.secret`` and ``master.public``, all that a worker needs.

    Raises
    ------
    AuthenticationFailed
        If a file is missing, is no key, or a secret can be read by others.
    """
    place = Path(folder)
    secret = _read_key(place, "worker", "secret")
    master = _read_key(place, "master", "public")
    return WorkerKeys(str(place), secret, zmq.curve_public(secret), master)


class Doorkeeper:
    """Answers ZeroMQ's question who may come in (ZAP, RFC 27), on a socket polled by its owner.

    Made before the guarded socket is bound. While it does not answer, nobody comes in.

    Attributes
    ----------
    socket : zmq.Socket
        Readable when somebody knocks; then call `answer`.
    n_refused : int
        Keys turned away.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: MasterKeys) -> None:
        self._keys = keys
        self.n_refused = 0
        self.socket = context.socket(zmq.REP)
        self.socket.set(zmq.LINGER, 0)
        self.socket.bind("inproc://zeromq.zap.01")

    def guard(self, socket: zmq.Socket[bytes]) -> None:
        """Make a socket, not yet bound, let in only whom this doorkeeper lets in."""
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, self._keys.secret)
        socket.set(zmq.CURVE_PUBLICKEY, self._keys.public)
        socket.set(zmq.ZAP_DOMAIN, _DOMAIN)
        # Without this ZeroMQ lets everybody in when no doorkeeper is found.
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def answer(self) -> None:
        """Answer all who knock; waits for nothing."""
        while True:
            try:
                request = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            user = self._judge(request)
            if not user:
                self.n_refused += 1
            verdict = [b"200", b"OK", user.encode()] if user else [b"400", b"key not known", b""]
            request_id = request[1] if len(request) > 1 else b""
            self.socket.send_multipart([b"1.0", request_id, *verdict, b""], zmq.DONTWAIT)

    def _judge(self, request: list[bytes]) -> str:
        """Return the user whose key was shown; '' for nobody."""
        # version, request id, domain, address, routing id, mechanism, key
        if len(request) != 7 or request[0] != b"1.0" or request[2] != _DOMAIN:
            return ""
        if request[5] != b"CURVE" or len(request[6]) != 32:
            return ""
        return self._keys.users.get(z85.encode(request[6]), "")


def _write_key(place: Path, role: str, part: str, key: bytes) -> None:
    text = (
        f"# paramserver: the {part} key of the {role}. {_ROLES[role]}\n"
        f"# Keep secret keys at mode 0600, and copy them by a safe way only (scp, say).\n"
        f"{_TAG} {key.decode()}\n"
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(place / f"{role}.{part}", flags, 0o600), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _read_key(place: Path, role: str, part: str) -> bytes:
    path = place / f"{role}.{part}"
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096)
    except OSError as error:
        raise AuthenticationFailed(
            f"The key file {path} cannot be read ({error.strerror}). Make keys with "
            f"`paramserver keys DIR`, or copy {path.name} from the folder where they were made."
        ) from error
    forbidden = 0o077 if part == "secret" else 0o022
    if not stat.S_ISREG(mode) or mode & forbidden:
        can = "read" if part == "secret" else "change"
        raise AuthenticationFailed(
            f"Others can {can} the key file {path}, so it is not used; type: chmod 600 {path} "
            "(and make new keys if somebody may have done so)"
        )
    for line in text.decode("ascii", "replace").splitlines():
        if line.startswith(_TAG):
            key = line.removeprefix(_TAG).strip().encode("ascii", "replace")
            if _is_key(key):
                return key
    raise AuthenticationFailed(
        f"{path} holds no key (a line '{_TAG} ' and 40 characters); copy it anew, or make new keys "
        "with `paramserver keys DIR`."
    )


def _is_key(key: bytes) -> bool:
    if len(key) != 40:
        return False
    try:
        return len(z85.decode(key)) == 32
    except (ValueError, KeyError, struct.error):
        return False
