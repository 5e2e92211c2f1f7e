"""A stand-in for a worker process: says what it sees, and then does what it was made for.

Run by an agent as ``python -m tests.integration.agent_child``. Its options:
``station``: path of the datagram socket to report to; ``do``: a name from `DEEDS`.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from paramserver.runtime import lifeline
from paramserver.runtime.flight_recorder import FlightRecorder

DEEDS: dict[str, Callable[[Child], None]] = {}


def deed(act: Callable[[Child], None]) -> Callable[[Child], None]:
    DEEDS[act.__name__] = act
    return act


class Child:
    def __init__(self) -> None:
        self.config = lifeline.read_config()
        self.recorder = FlightRecorder.open(self.config.recorder_fd)

    def report(self, **facts: Any) -> None:
        facts |= {"worker_id": self.config.worker_id, "pid": os.getpid()}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as station:
            station.connect(self.config.options["station"])
            station.send(json.dumps(facts).encode())


def wait_for_ever() -> None:
    while True:
        signal.pause()


@deed
def wait_in_a_job(child: Child) -> None:
    lifeline.hold_lifeline(child.config)
    child.recorder.started(7, 2)
    child.report()
    wait_for_ever()


@deed
def wait_after_a_job(child: Child) -> None:
    lifeline.hold_lifeline(child.config)
    child.recorder.started(7, 2)
    child.recorder.ended()
    child.report()
    wait_for_ever()


@deed
def hold_the_interpreter(child: Child) -> None:
    lifeline.hold_lifeline(child.config)
    child.report()
    ctypes.PyDLL(None).sleep(60)


@deed
def know_the_lifeline_only(child: Child) -> None:
    libc = ctypes.CDLL(None)
    assert libc.prctl(1, 0, 0, 0, 0) == 0  # PR_SET_PDEATHSIG, none
    marker = child.config.options["marker"]
    lifeline.hold_lifeline(child.config, lambda: open(marker, "x").close())
    child.report()
    wait_for_ever()


@deed
def leave_when_told(child: Child) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    child.report()
    signal.sigwait([signal.SIGUSR1])
    sys.exit(0)


@deed
def complain_and_fail(child: Child) -> None:
    for i in range(30):
        print(f"complaint {i}", file=sys.stderr)
    sys.exit(3)


@deed
def fail_at_once(child: Child) -> None:
    raise ImportError("no module named luck")


@deed
def fail_to_initialize(child: Child) -> None:
    print("ValueError: no such model", file=sys.stderr)
    sys.exit(lifeline.EXIT_NOT_INITIALIZED)


@deed
def do_a_job_and_fail(child: Child) -> None:
    child.recorder.started(1, 1)
    child.recorder.ended()
    os._exit(4)


@deed
def crash_in_c(child: Child) -> None:
    child.recorder.started(9, 1)
    ctypes.string_at(0)


@deed
def eat_memory(child: Child) -> None:
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == child.config.memory_limit_bytes
    bytearray(1 << 40)


@deed
def fill_memory(child: Child) -> None:
    eaten = bytearray(child.config.options["n_bytes"])
    eaten[::4096] = b"x" * len(eaten[::4096])
    child.report()
    wait_for_ever()


@deed
def flood(child: Child) -> None:
    line = b"f" * 99 + b"\n"
    for _ in range(child.config.options["n_lines"]):
        os.write(2, line)
    os.write(2, b"the end\n")
    child.report()
    wait_for_ever()


@deed
def leave_a_grandchild(child: Child) -> None:
    stubborn = child.config.options["stubborn"]
    code = "import signal, sys; print('up', flush=True); signal.pause()"
    if stubborn:
        code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + code
    grandchild = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert grandchild.stdout is not None
    grandchild.stdout.readline()
    child.report(grandchild=grandchild.pid)
    wait_for_ever()


@deed
def fly(child: Child) -> None:
    child.report()
    recorder, job = child.recorder, 0
    while True:
        recorder.started(job, job % 97)
        recorder.ended()
        job += 1


@deed
def describe_itself(child: Child) -> None:
    fds = open_descriptors()
    lifeline.hold_lifeline(child.config)
    child.report(
        argv=sys.orig_argv,
        optimize=sys.flags.optimize,
        sys_path=sys.path,
        cwd=os.getcwd(),
        env={k: v for k, v in os.environ.items() if k.endswith("_THREADS") or k == "PYTHONPATH"},
        environment=dict(os.environ),
        is_session_leader=os.getsid(0) == os.getpid(),
        stdin=sys.stdin.read(),
        token=child.config.token,
        agent_id=child.config.agent_id,
        fds=fds,
        recorder_fd=child.config.recorder_fd,
        lifeline_fd=child.config.lifeline_fd,
        inheritable=[fd for fd in fds if os.get_inheritable(fd)],
        threads=[thread.name for thread in threading.enumerate()],
        allow=child.config.allow[:9],
        n_allowed=len(child.config.allow),
        trusted=child.config.trusted,
    )
    wait_for_ever()


def open_descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor of this very listing
            continue
    return found


if __name__ == "__main__":
    me = Child()
    DEEDS[me.config.options["do"]](me)
