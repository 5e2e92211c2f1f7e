"""How a worker process begins: told on standard input who it is and where its master listens.

Rule 1: it loads the transport it needs, and no other.
Rule 2: from its first moment it ends with its parent.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from paramserver.errors import ParamServerError
from paramserver.runtime.flight_recorder import FlightRecorder
from paramserver.runtime.lifeline import ChildConfig, hold_lifeline, read_config
from paramserver.runtime.worker import Worker
from paramserver.transport.base import WorkerTransport

EXIT_FAILED = 1


def _connect(config: ChildConfig) -> WorkerTransport:
    if config.address.startswith("unix://"):
        from paramserver.transport.unix_worker import UnixWorkerTransport

        return UnixWorkerTransport.connect(config.address)
    from paramserver.transport.security import load_worker_keys
    from paramserver.transport.zmq_worker import ZmqWorkerTransport

    keys = load_worker_keys(config.keys_dir) if config.keys_dir else None
    insecure = bool(config.options.get("allow_insecure", False))
    return ZmqWorkerTransport.connect(config.address, keys, allow_insecure=insecure)


def main_child() -> int:
    """Be a worker: the configuration comes on standard input. Returns the exit code."""
    config = read_config()
    hold_lifeline(config)
    recorder = FlightRecorder.open(config.recorder_fd)
    try:
        transport = _connect(config)
        worker = Worker(config, transport, recorder)
    except ParamServerError as error:
        print(f"paramserver worker: {error}", file=sys.stderr, flush=True)
        return EXIT_FAILED
    signal.signal(signal.SIGTERM, lambda *_: worker.leave("terminated"))
    # A process that a job forks is none of ours: told to end, it ends.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    with suppress(ImportError):
        import numpy  # noqa: F401 - most jobs need it, and it loads while the greeting travels
    return worker.run()
