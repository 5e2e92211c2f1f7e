"""How a worker process begins: told on standard input who it is and where its master listens.

Rule 1: it loads the transport it needs, and no other.
Rule 2: from its first moment it ends with its parent.
Rule 3: what the user wants every worker to do first is done before the master hears of it.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress

from paramserver.errors import ParamServerError
from paramserver.runtime.flight_recorder import FlightRecorder
from paramserver.runtime.job_runner import leave_forked
from paramserver.runtime.lifeline import (
    EXIT_NOT_INITIALIZED,
    ChildConfig,
    hold_lifeline,
    read_config,
)
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


def _is_initialized(config: ChildConfig) -> bool:
    """Do what the user wants done first, if anything; say what went wrong."""
    path = config.options.get("initializer")
    if path is None:
        return True
    from paramserver.runtime.initializer import initialize

    pid = os.getpid()
    try:
        initialize(path, trusted=config.trusted)
    except BaseException:  # noqa: BLE001 - user code: also a SystemExit means it is not done
        traceback.print_exc()
        return False
    finally:
        if os.getpid() != pid:  # a child that it has forked, which is no worker
            leave_forked()
    return True


def main_child() -> int:
    """Be a worker: the configuration comes on standard input. Returns the exit code."""
    config = read_config()
    hold_lifeline(config)
    recorder = FlightRecorder.open(config.recorder_fd)
    if not _is_initialized(config):
        return EXIT_NOT_INITIALIZED
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
