"""Why workers do not come up: what is bad luck, what is hopeless, what heals it."""

from __future__ import annotations

import errno

import pytest

from paramserver.errors import InitializerFailed, LaunchFailed
from paramserver.protocol.messages import ProcessExited
from paramserver.runtime.launch_trouble import LaunchTrouble


def dead(number: int, exit_code: int = 1) -> ProcessExited:
    return ProcessExited(f"a-{number}", 4711, exit_code, 0, 0, "its last words\n")


def test_a_worker_that_dies_on_its_way_up_is_bad_luck_until_it_is_hopeless() -> None:
    trouble = LaunchTrouble("a")
    trouble.ended(dead(0), is_hopeless=False)
    assert trouble.failure is None
    trouble.ended(dead(1, exit_code=-9), is_hopeless=True)
    failure = trouble.failure
    assert type(failure) is LaunchFailed
    assert str(failure) == (
        "No worker of agent a has come up; the last one ended with -9. Its last words:\n"
        "its last words\n"
    )
    assert failure.fields == {"exit_code": -9, "stderr_tail": "its last words\n"}
    trouble.came_up(0)
    assert trouble.failure is None


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EMFILE, ". Allow more open files (`ulimit -n 4096`), or start fewer workers"),
        (errno.ENFILE, ". Allow more open files (`ulimit -n 4096`), or start fewer workers"),
        (errno.EAGAIN, ". Allow more processes (`ulimit -u`), or start fewer workers"),
        (errno.ENOMEM, ". Start fewer workers, or end what uses the memory"),
        (errno.EACCES, ""),
    ],
)
def test_a_process_that_cannot_be_started_is_said_once_with_what_helps(
    number: int, remedy: str
) -> None:
    trouble = LaunchTrouble("a")
    error = OSError(number, "no")
    words = f"{type(error).__name__}: [Errno {number}] no{remedy}"
    assert trouble.not_started(error, is_hopeless=False) == (
        f"agent a cannot start a worker: {words}"
    )
    assert trouble.said == words
    assert trouble.failure is None
    assert trouble.not_started(error, is_hopeless=True) == ""
    failure = trouble.failure
    assert failure is not None
    assert f"the last one could not be started. Its last words:\n{words}" in str(failure)
    assert failure.exit_code is None
    trouble.started()
    assert trouble.said == ""
    assert trouble.not_started(error, is_hopeless=False) != "", "it is news again"


def test_an_initializer_that_raised_is_healed_by_who_was_started_afterwards() -> None:
    trouble = LaunchTrouble("a")
    trouble.not_initialized(dead(1, exit_code=76), n_started=3)
    failure = trouble.failure
    assert type(failure) is InitializerFailed
    assert str(failure) == (
        "The initializer of the workers has raised, in worker a-1. What it wrote at last:\n"
        "its last words\n"
    )
    trouble.came_up(2)
    assert trouble.failure is failure
    trouble.came_up(3)
    assert trouble.failure is None
