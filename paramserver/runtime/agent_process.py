"""An agent as a process of its own: what it opens, which signals it heeds, where its story goes.

Rule 1: whatever was opened is closed, and signals mean again what they meant before.
Rule 2: a reader of the story who stops reading, or goes away, holds up nothing.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Any

from paramserver.runtime.remote_agent import AgentOptions, RemoteAgent
from paramserver.runtime.scratch import Scratch
from paramserver.transport.security import load_worker_keys
from paramserver.transport.zmq_worker import ZmqWorkerTransport


def run_agent(options: AgentOptions) -> int:
    """Be an agent: keep workers for the master at an address. Returns the exit code.

    Raises
    ------
    ConfigError, AuthenticationFailed
        If the address or the keys cannot be used.
    """
    keys = None if options.keys_dir is None else load_worker_keys(options.keys_dir)
    with Scratch.create() as scratch:
        transport = ZmqWorkerTransport.connect(options.address, keys)
        agent = RemoteAgent(options, transport, scratch, tell)
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
            numbers.append(signal.SIGHUP)
        handlers: dict[signal.Signals, Any] = {
            number: signal.signal(number, agent.leave) for number in numbers
        }
        try:
            return agent.run()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def tell(text: str, fd: int = 1) -> None:
    """Print one line of the story, or what of it the reader takes now."""
    line = memoryview(f"[{time.strftime('%H:%M:%S')}] {text}\n".encode(errors="replace"))
    try:
        # A pipe that is ready takes this many bytes without blocking, not more.
        while line and select.select([], [fd], [], 0.0)[1]:
            line = line[os.write(fd, line[: select.PIPE_BUF]) :]
    except OSError:  # whoever read along is gone
        return
