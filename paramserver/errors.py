"""Every exception that paramserver raises, as one tree.

::

    ParamServerError
    ├── ProtocolError
    │   ├── LocalProtocolError       we misused the protocol
    │   ├── RemoteProtocolError      a peer sent something it must not send
    │   └── VersionMismatch          the peer speaks another version
    ├── TransportError
    │   ├── ConnectFailed            nobody answered at the address
    │   ├── PeerLost                 the connection to a peer is gone
    │   ├── MessageTooLarge          a limit of the wire format was passed
    │   └── AuthenticationFailed     no key, a wrong key, or keys in the open
    ├── JobError
    │   ├── JobFailed                the user's function raised (remote traceback inside)
    │   ├── JobTimeout               the job ran past its deadline on every try
    │   └── PoisonJob                the job lost its worker on every try
    ├── ClusterError
    │   ├── NoWorkers                nobody is there to do the work
    │   ├── LaunchFailed             a worker process did not come up
    │   │   └── InitializerFailed (RuntimeError)   the initializer of the workers raised
    │   └── ClusterClosed (RuntimeError)   the cluster has been shut down
    ├── TrainingError
    │   ├── Diverged                 the weights stopped being finite
    │   └── ShapeMismatch            an array has another shape or dtype than agreed
    ├── DataError                    a file or an array is not what it should be
    ├── ConfigError (ValueError)     a setting has a value that is not allowed
    └── InternalError
        └── InvalidTransition        a bug in paramserver: please report it

Rule 1: a message says what happened, to whom, and what to do next.
Rule 2: the facts are fields as well as words, and every error survives pickling with its fields.
"""

from __future__ import annotations

from typing import Any, Self


class ParamServerError(Exception):
    """The root of all errors of this package.

    Parameters
    ----------
    message : str
        What happened, to whom, and what to do next.
    **fields
        The facts behind the message; each becomes an attribute.
    """

    def __init__(self, message: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.fields = fields
        for name, value in fields.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.fields)

    @classmethod
    def _from_fields(cls, message: str, fields: dict[str, Any]) -> Self:
        return cls(message, **fields)


def _rebuild(kind: type[ParamServerError], message: str, fields: dict[str, Any]) -> Exception:
    return kind._from_fields(message, fields)


class ProtocolError(ParamServerError):
    """A message broke the rules of the wire format or of the conversation."""


class LocalProtocolError(ProtocolError):
    """This side tried to send what the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """A peer sent bytes that are not a valid message.

    Attributes
    ----------
    peer : str
        Who sent them, where known.
    """

    peer: str


class VersionMismatch(ProtocolError):
    """The peer speaks another version of the protocol or runs another release."""

    ours: str
    theirs: str


class TransportError(ParamServerError):
    """Bytes could not be moved between two processes."""


class ConnectFailed(TransportError):
    """Nobody answered at the address within the time allowed."""

    address: str


class PeerLost(TransportError):
    """The connection to a peer is gone."""

    peer: str


class MessageTooLarge(TransportError):
    """A message passes a limit of the wire format."""

    size_bytes: int
    limit_bytes: int


class AuthenticationFailed(TransportError):
    """Keys are missing, wrong, or kept where others can read them."""


class JobError(ParamServerError):
    """A job has ended without a result."""


class JobFailed(JobError):
    """The function of a job raised on every try.

    Attributes
    ----------
    error_type : str
        Qualified name of the exception's class on the worker.
    traceback : str
        The remote traceback, bounded in length.
    worker_id : str
    attempts : int
    """

    error_type: str
    traceback: str
    worker_id: str
    attempts: int


class JobTimeout(JobError):
    """A job ran past its deadline on every try; its worker was killed each time."""

    timeout_s: float
    attempts: int


class PoisonJob(JobError):
    """A job lost its worker on every try, so it is taken to be the cause.

    Attributes
    ----------
    exit_code : int or None
        Of the last worker lost; negative for a signal, as in `subprocess`.
    stderr_tail : str
        The last lines the last worker wrote to its standard error.
    """

    exit_code: int | None
    stderr_tail: str
    attempts: int


class ClusterError(ParamServerError):
    """The cluster cannot do what was asked."""


class NoWorkers(ClusterError):
    """No worker was there for as long as the cluster was told to wait."""

    waited_s: float


class LaunchFailed(ClusterError):
    """A worker process ended before it was ready.

    Attributes
    ----------
    exit_code : int or None
    stderr_tail : str
    """

    exit_code: int | None
    stderr_tail: str


class InitializerFailed(LaunchFailed, RuntimeError):
    """The initializer of the workers raised; like a broken pool of the standard's, a RuntimeError.

    Attributes
    ----------
    stderr_tail : str
        Its traceback, or the last lines of it.
    """


class ClusterClosed(ClusterError, RuntimeError):
    """The cluster has been shut down; like the standard executors, a RuntimeError."""


class TrainingError(ParamServerError):
    """Training could not go on."""


class Diverged(TrainingError):
    """The weights stopped being finite; what made them so was not taken.

    Attributes
    ----------
    round : int
        The first bad round, or the number of the first bad update.
    partitions : tuple of int
        Where it came from; empty where each part was finite, and the step was not.
    workers : tuple of str
        Who computed it there.
    weights : ndarray of shape (d,)
        The last finite ones.
    """

    round: int
    partitions: tuple[int, ...]
    workers: tuple[str, ...]
    weights: Any


class ShapeMismatch(TrainingError, ValueError):
    """An array has another shape, dtype or layout than agreed."""


class DataError(ParamServerError):
    """A file or an array is not what it should be.

    Attributes
    ----------
    path : str
        The file (or the name of the argument).
    """

    path: str


class ConfigError(ParamServerError, ValueError):
    """A setting has a value that is not allowed."""

    field: str
    value: Any


class InternalError(ParamServerError):
    """A bug in paramserver; please report it with this text."""


class InvalidTransition(InternalError):
    """A state machine was asked for a step that its table does not have.

    Attributes
    ----------
    story : tuple of str
        What happened to the thing before, oldest first.
    """

    story: tuple[str, ...]
