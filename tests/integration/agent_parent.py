"""A master in a process of its own, for tests that kill it.

``python -m tests.integration.agent_parent STATION DO N_WORKERS [BASE]``: starts the workers, makes
scratch folders under BASE, and waits. With the word ``leave`` on standard input it ends without
having closed anything.
"""

from __future__ import annotations

import sys

from paramserver.protocol.messages import ProcessExited
from paramserver.runtime.agent import Agent
from paramserver.runtime.scratch import Scratch
from paramserver.runtime.worker_spec import WorkerSpec


def main(station: str, do: str, n_workers: str, base: str) -> None:
    scratch = Scratch.create(base)
    spec = WorkerSpec(
        address="ipc:///nowhere",
        run=scratch.run,
        module="tests.integration.agent_child",
        options={"station": station, "do": do, "marker": f"{station}.marker"},
    )

    def on_exit(exited: ProcessExited, expected: bool) -> None:
        print(f"{exited.worker_id} exited", flush=True)

    agent = Agent("p", spec, on_exit)
    agent.scale(int(n_workers))
    print(scratch.fast, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
