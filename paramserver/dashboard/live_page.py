"""The page of one cluster: there is none before it is asked for, and one afterwards.

Rule 1: it holds the parts of the cluster, never the cluster: who drops that ends it, page or not.
Rule 2: the server and what it needs are imported when the page is first opened.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from paramserver.runtime.parts import ClusterParts
from paramserver.runtime.status import ClusterStatus, take_status

if TYPE_CHECKING:
    from paramserver.dashboard.server import DashboardServer

LOOK_S: Final = 2.0
"""How long it waits for the master."""


class LivePage:
    """Opens the page of a cluster. Any thread may ask.

    Parameters
    ----------
    parts : ClusterParts
        Of the cluster; they close the page when they end.
    title : str
    """

    def __init__(self, parts: ClusterParts, title: str) -> None:
        self._parts = parts
        self._title = title
        self._lock = threading.Lock()
        self._server: DashboardServer | None = None

    @property
    def is_open(self) -> bool:
        """Whether somebody could be looking."""
        return self._server is not None

    def open(self, host: str, port: int) -> str:
        """Serve the page, unless it is served already; return its link.

        Raises
        ------
        ConfigError
            If nothing can listen there; the page can be opened elsewhere afterwards.
        """
        with self._lock:
            if self._server is None:
                from paramserver.dashboard.attempts_panel import AttemptsPanel
                from paramserver.dashboard.cluster_panel import ClusterPanel
                from paramserver.dashboard.server import DashboardServer

                parts = self._parts
                server = DashboardServer(parts.panels, title=self._title, host=host, port=port)
                parts.at_close.append(server.close)
                attempts = AttemptsPanel()
                parts.master.ask(lambda _: parts.master.watch_attempts(attempts.note))
                parts.panels.append(attempts)
                parts.panels.append(ClusterPanel(self._status, others=parts.panels))
                self._server = server
            return self._server.link

    def _status(self) -> ClusterStatus:
        master, address = self._parts.master, self._parts.address
        return master.ask(lambda machine: take_status(machine, master.clock(), address), LOOK_S)
