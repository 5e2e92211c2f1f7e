"""Private folders of one run: sockets, shared memory and files that nobody else may touch.

Rule 1: a folder is of mode 0700 under a root of mode 0700 that belongs to this user. A root that
        anyone else could have made or written to is refused, never repaired.
Rule 2: it lives as long as a lock is held, and the kernel frees the lock of whoever dies. So the
        leftovers of a killed master are known for certain, and the next start removes them.
Rule 3: nobody waits for a lock, and nobody removes a folder whose lock is held.
Rule 4: the lock file ``<run>.lock`` lies beside the folder ``<run>``: it is there before the folder
        is made and until the folder is gone, and gets its name when it is locked already. A lock
        that was taken later counts only if its path still leads to the same file.

::

    /dev/shm/paramserver-1000/      fast: memory
        5f0c....lock
        5f0c.../                    vectors
    /tmp/paramserver-1000/          disk
        5f0c....lock
        5f0c.../                    nonce, sockets, files of the shuffle
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

from paramserver.errors import ClusterError, ConfigError

_SHARED_MEMORY: Final = Path("/dev/shm")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MAX_SOCKET_PATH_BYTES: Final = 100
"""The kernels allow 108 (Linux) and 104 (macOS), less what the transport may append."""
_LOCK_SUFFIX: Final = ".lock"
_NEW_SUFFIX: Final = ".new"
_STILL_CHANGING: Final = (errno.ENOTEMPTY, errno.ENOENT)
"""What is met while a worker of the dead run, on its way out, still writes there, or removes files:
nobody has to be told."""
_LOCK_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_RUN_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Scratch:
    """The folders of one run on this machine; see `create`. A context manager.

    Attributes
    ----------
    run : str
        Identity of the run, the name of its folders.
    fast : Path
        For shared memory: in memory where the system has such a place.
    disk : Path
        For files that may be large, and for what must outlive the user's log-out: systemd then
        empties /dev/shm of a user's files, but not /tmp.
    nonce_path : Path
        The file behind `nonce`, for `read_nonce`.
    """

    def __init__(self, run: str, fast: _LockedFolder, disk: _LockedFolder) -> None:
        self.run = run
        self._fast = fast
        self._disk = disk
        self.fast = fast.path
        self.disk = disk.path
        self.nonce_path = self.disk / "nonce"
        self._nonce = secrets.token_hex(16)
        self._owner_pid = os.getpid()
        fd = os.open(self.nonce_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            file.write(self._nonce)

    @classmethod
    def create(cls, base: str | os.PathLike[str] | None = None, run: str | None = None) -> Self:
        """Make the folders of a run, after having swept away what dead runs of this user left.

        Parameters
        ----------
        base : path, optional
            Where to put them; by default memory (`/dev/shm`) and the system's temporary folder.
        run : str, optional
            Identity of the run; by default 16 random hex digits.

        Raises
        ------
        ConfigError
            If the root folder exists and is not private to this user, or cannot be made; or if
            `run` cannot be the name of a folder.
        ClusterError
            If this run is alive in another process.
        """
        run = run or secrets.token_hex(8)
        if not _RUN_NAME.fullmatch(run):
            raise ConfigError(
                f"A run is named by letters, digits, '-' and '_', not {run!r}.",
                field="run",
                value=run,
            )
        roots = _roots(base)
        for root in roots:
            _sweep_root(root)
        with ExitStack() as undo:
            folders = [_enter(undo, _LockedFolder(root, run)) for root in roots]
            scratch = cls(run, folders[0], folders[-1])
            undo.pop_all()
            return scratch

    def nonce(self) -> str:
        """Return what only a process of this user on this machine can read; see `read_nonce`."""
        return _bound_to_machine(self._nonce)

    def socket_path(self, name: str) -> Path:
        """Return the path for a socket of this name.

        Raises
        ------
        ConfigError
            If the path is longer than a socket's may be.
        """
        for path in (self.disk / name, self.fast / name):
            if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
                return path
        raise ConfigError(
            f"The socket path {path} is longer than {_MAX_SOCKET_PATH_BYTES} bytes; choose a "
            "shorter folder for scratch files (set TMPDIR).",
            field="scratch",
            value=str(path),
        )

    def close(self) -> None:
        """Remove the folders and free their locks. May be called twice.

        A process that was forked from the owner has a copy of this object, but nothing to close.
        """
        if os.getpid() == self._owner_pid:
            with ExitStack() as each:  # the second is closed even where the first cannot be removed
                each.callback(self._fast.close)
                each.callback(self._disk.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep(base: str | os.PathLike[str] | None = None) -> list[Path]:
    """Remove what dead runs of this user have left, and return the folders removed."""
    return [path for root in _roots(base) for path in _sweep_root(root)]


def read_nonce(path: str | os.PathLike[str]) -> str:
    """Return the `Scratch.nonce` behind a `nonce_path`, or '' where it cannot be read.

    Two processes that agree on it run on one machine as one user: the file is private, and the
    value is bound to this boot of this kernel, so that a shared file system does not deceive.
    """
    try:
        with open(path, encoding="ascii") as file:
            return _bound_to_machine(file.read(64))
    except (OSError, UnicodeDecodeError):
        return ""


class _LockedFolder:
    """One folder and the lock that says that it is in use."""

    def __init__(self, root: Path, run: str) -> None:
        self.path = root / run
        self._lock_path = root / f"{run}{_LOCK_SUFFIX}"
        fd = _make_lock(root, self._lock_path)
        if fd is None:
            raise ClusterError(
                f"Run {run} is in use by another process, which holds {self._lock_path}. "
                "Stop that one first."
            )
        self._lock_fd = fd
        try:
            _remove_tree(self.path)  # a leftover whose lock file someone else has cleaned away
            os.mkdir(self.path, 0o700)
        except BaseException:
            self._free()
            raise

    def close(self) -> None:
        if self._lock_fd >= 0:
            try:
                _remove_tree(self.path)
            except BaseException:  # the next sweep will find it by its lock file
                self._free(unlink=False)
                raise
            self._free()

    def _free(self, unlink: bool = True) -> None:
        if unlink:
            self._lock_path.unlink(missing_ok=True)
        os.close(self._lock_fd)
        self._lock_fd = -1


def _enter(stack: ExitStack, folder: _LockedFolder) -> _LockedFolder:
    stack.callback(folder.close)
    return folder


def _roots(base: str | os.PathLike[str] | None) -> list[Path]:
    """Return the root for what must be fast and the one for what may be large; or one for both."""
    name = f"paramserver-{os.geteuid()}"
    if base is not None:
        return [_private_root(Path(base).absolute() / name)]
    disk = _private_root(Path(tempfile.gettempdir()).absolute() / name)
    if sys.platform == "linux" and os.access(_SHARED_MEMORY, os.W_OK | os.X_OK):
        return [_private_root(_SHARED_MEMORY / name), disk]
    return [disk]


def _private_root(root: Path) -> Path:
    try:
        with suppress(FileExistsError):
            os.mkdir(root, 0o700)
        found = os.lstat(root)  # never through a link: it could be turned round later
    except OSError as error:
        raise ConfigError(
            f"Scratch files cannot be kept in {root.parent}: {error.strerror}. Choose another "
            "folder (set TMPDIR).",
            field="scratch",
            value=str(root),
        ) from error
    is_private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
    if found.st_uid != os.geteuid() or not is_private:
        raise ConfigError(
            f"{root} exists and is not a folder that only you can enter (owner {found.st_uid}, "
            f"mode {stat.filemode(found.st_mode)}). Remove it if you may, or choose another "
            "folder (set TMPDIR).",
            field="scratch",
            value=str(root),
        )
    return root


def _sweep_root(root: Path) -> list[Path]:
    removed: list[Path] = []
    for new in root.glob(f"*{_NEW_SUFFIX}"):
        fd = _try_lock(new)
        if fd is not None:
            new.unlink(missing_ok=True)
            os.close(fd)
    for lock_path in root.glob(f"*{_LOCK_SUFFIX}"):
        fd = _try_lock(lock_path)
        if fd is None:
            continue
        try:
            folder = lock_path.with_suffix("")
            _remove_tree(folder)
            lock_path.unlink(missing_ok=True)
            removed.append(folder)
        except OSError as error:
            # The next sweep will find the lock file where it was. A start does not fail for the
            # sake of a leftover.
            if error.errno not in _STILL_CHANGING:
                words = f"{folder} cannot be removed: {error}"
                warnings.warn(words, RuntimeWarning, stacklevel=2)
        finally:
            os.close(fd)
    return removed


def _make_lock(root: Path, path: Path) -> int | None:
    """Return a descriptor that holds the lock of this name; None if it is in use."""
    while True:
        new = root / f"{secrets.token_hex(8)}{_NEW_SUFFIX}"
        fd = os.open(new, _LOCK_FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.link(new, path)
            return fd
        except FileExistsError:  # a leftover, or in use
            os.close(fd)
            found = _try_lock(path)
            if found is not None or path.exists():
                return found
        except (BlockingIOError, FileNotFoundError):  # a sweep has taken the nameless one away
            os.close(fd)
        except BaseException:
            os.close(fd)
            raise
        finally:
            new.unlink(missing_ok=True)


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock; None if another holds it or it is not there."""
    try:
        fd = os.open(path, _LOCK_FLAGS)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _leads_to(path, fd):
            return fd
    except BlockingIOError:
        pass
    os.close(fd)
    return None


def _leads_to(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _remove_tree(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _bound_to_machine(nonce: str) -> str:
    boot = _BOOT_ID.read_text(encoding="ascii").strip() if sys.platform == "linux" else ""
    return f"{nonce}:{boot}"
