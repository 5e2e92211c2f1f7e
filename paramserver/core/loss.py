"""How a worker was lost: for the jobs it held, and in words. Pure."""

from __future__ import annotations


class Loss:
    """How a worker was lost, for the jobs it held."""

    __slots__ = ("charge", "exit_code", "reason", "running", "text")

    def __init__(
        self,
        reason: str,
        *,
        charge: bool = True,
        running: tuple[int, int] | None = None,
        exit_code: int | None = None,
        text: str = "",
    ) -> None:
        self.reason = reason
        self.charge = charge
        """Whether the attempt that was running is to blame at all."""
        self.running = running
        """That attempt, when it is known; (0, 0) when it is known that none was."""
        self.exit_code = exit_code
        self.text = text


def describe_exit(code: int) -> str:
    """Say how a process ended: the name of the signal, or the exit code."""
    if code >= 0:
        return f"exit code {code}"
    return f"signal {-code} ({SIGNALS[-code]})" if -code in SIGNALS else f"signal {-code}"


SIGNALS = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
    9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU",
}  # fmt: skip
"""The numbers that Linux and macOS share, by hand: the module `signal` is not for pure code."""
