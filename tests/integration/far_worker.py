"""A worker that sees nothing of the master's folders, as if it were on another machine.

Run as ``python -m tests.integration.far_worker --child`` in place of the real one.
"""

from __future__ import annotations

import sys

from paramserver.runtime import relay
from paramserver.runtime.worker_main import main_child

FAR_AGENT = (
    "import sys; sys.argv[0] = 'worker'; from functools import partial\n"
    "from paramserver.runtime import remote_agent as remote\n"
    "remote.WorkerSpec = partial(remote.WorkerSpec, module='tests.integration.far_worker')\n"
    "from paramserver.worker import main; sys.exit(main())"
)
"""The program of an agent whose workers are such ones."""

if __name__ == "__main__":
    relay.is_here = lambda folder: False
    sys.exit(main_child())
