"""The simulated network: connections that delay, lose, repeat, reorder and break.

Rule 1: a connection is never reopened; who comes back comes over a new one, under a new name.
Rule 2: what the master had on its way to it when a connection broke is lost; what it was about to
        receive may still come, even after the peer has connected anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from paramserver.core.events import Arrived, Disconnected
from paramserver.protocol.messages import Envelope, MasterMessage, WorkerMessage

if TYPE_CHECKING:
    from paramserver.testing.simulator import Simulation

HEARTBEAT_S = 4.0
"""A connection this long silent is taken to be gone, at both ends."""


class Party(Protocol):
    """Who is at the far end of a connection."""

    address: str

    def hear(self, envelope: Envelope, message: MasterMessage) -> None:
        """Take in a message of the master."""


class Connection:
    """One connection between a worker or agent and the master."""

    __slots__ = (
        "cut_down",
        "cut_up",
        "is_flushed",
        "is_open",
        "last_down",
        "last_up",
        "party",
        "peer",
    )

    def __init__(self, peer: bytes, party: Party) -> None:
        self.peer = peer
        self.party = party
        self.is_open = True
        self.is_flushed = False
        """What was on its way to the master when it broke does arrive."""
        self.cut_up = False
        self.cut_down = False
        self.last_up = 0.0
        self.last_down = 0.0


class Network:
    """All connections of a simulation."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._rng = sim.rng
        self._n_connections = 0
        self.connections: dict[bytes, Connection] = {}
        """Open ones by their name."""
        self.is_noisy = sim.faults.is_noisy
        self.n_carried = 0

    def connect(self, party: Party) -> Connection:
        """Make a connection to the master."""
        self._n_connections += 1
        connection = Connection(b"peer-%d" % self._n_connections, party)
        self.connections[connection.peer] = connection
        return connection

    def close(self, connection: Connection, detect_s: float) -> None:
        """End a connection; the master will know after a while."""
        if not connection.is_open:
            return
        connection.is_open = False
        connection.is_flushed = self._rng.random() < 0.5
        del self.connections[connection.peer]
        self._sim.at(self._sim.now + detect_s, self._tell_disconnected, connection.peer)

    def _tell_disconnected(self, peer: bytes) -> None:
        self._sim.master.take_in(Disconnected(self._sim.now, peer))

    def up(self, connection: Connection, envelope: Envelope, message: WorkerMessage) -> None:
        """Carry a message to the master."""
        if connection.cut_up:
            return
        sim = self._sim
        for delay, is_ordered in self._travels():
            arrival = sim.now + delay
            if is_ordered:
                arrival = connection.last_up = max(arrival, connection.last_up)
            sim.at(arrival, self._arrive_up, connection, envelope, message)

    def down(self, peer: bytes, envelope: Envelope, message: MasterMessage) -> bool:
        """Carry a message of the master; return False when nobody is there."""
        connection = self.connections.get(peer)
        if connection is None:
            return False
        if connection.cut_down:
            return True
        sim = self._sim
        for delay, is_ordered in self._travels():
            arrival = sim.now + delay
            if is_ordered:
                arrival = connection.last_down = max(arrival, connection.last_down)
            sim.at(arrival, self._arrive_down, connection, envelope, message)
        return True

    def _travels(self) -> tuple[tuple[float, bool], ...]:
        """Draw how often a message arrives: after how long, and in its turn or not."""
        random, faults = self._rng.random, self._sim.faults
        self.n_carried += 1
        delay = faults.latency_s * (0.5 + random())
        if not self.is_noisy:
            return ((delay, True),)
        if random() < faults.drop:
            return ()
        is_ordered = random() >= faults.reorder
        first = (delay if is_ordered else delay * (1 + 20 * random()), is_ordered)
        if random() >= faults.duplicate:
            return (first,)
        return (first, (delay * (1 + 20 * random()), random() >= faults.reorder))

    def _arrive_up(
        self, connection: Connection, envelope: Envelope, message: WorkerMessage
    ) -> None:
        if connection.is_open or connection.is_flushed:
            sim = self._sim
            address = connection.party.address
            sim.master.take_in(
                Arrived(sim.now, connection.peer, "worker", envelope, message, address)
            )

    def _arrive_down(
        self, connection: Connection, envelope: Envelope, message: MasterMessage
    ) -> None:
        if connection.is_open:
            connection.party.hear(envelope, message)
