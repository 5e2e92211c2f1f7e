"""A simulated process: what workers and agents share. A connection, a timer, and mortality.

Rule 1: what a process decides is decided by the very machines of the core; here are only their
        drivers, as slow, deaf and mortal as real ones.
Rule 2: a stopped process does nothing; what came meanwhile is handled when it goes on.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from paramserver.core.commands import Say, WorkerCommand
from paramserver.protocol.messages import Envelope, MasterMessage
from paramserver.testing.network import HEARTBEAT_S, Connection

if TYPE_CHECKING:
    from paramserver.testing.simulator import Simulation

RELEASE = "simulated"


class Process:
    """What workers and agents have in common: a connection, a timer, and the ways to suffer."""

    def __init__(self, sim: Simulation, name: str, address: str) -> None:
        self.sim = sim
        self.name = name
        self.address = address
        """Of its machine."""
        self.pid = sim.next_pid(address)
        self.is_dead = False
        self.is_stopped = False
        self.connection: Connection | None = None
        self._timer_at: float | None = None
        self._backlog: deque[tuple[Envelope, MasterMessage]] = deque()
        self._unsent: list[Say] = []
        self._wants_connection = False

    # --- what subclasses say ----------------------------------------------------------------------

    def life_connected(self) -> list[WorkerCommand]:
        raise NotImplementedError

    def life_heard(self, envelope: Envelope, message: MasterMessage) -> list[WorkerCommand]:
        raise NotImplementedError

    def life_tick(self) -> list[WorkerCommand]:
        raise NotImplementedError

    def life_deadline(self) -> float | None:
        raise NotImplementedError

    def deaf_until(self) -> float:
        """Until when nobody listens."""
        return 0.0

    # --- connection -------------------------------------------------------------------------------

    def connect(self) -> None:
        """Dial the master, and greet as soon as somebody listens."""
        if self.is_dead:
            return
        if self.is_stopped:
            self._wants_connection = True
            return
        self._wants_connection = False
        self.connection = self.sim.network.connect(self)
        unsent, self._unsent = self._unsent, []
        if self.sim.rng.random() < 0.5:  # a real transport sends first what it still has
            for say in unsent:
                self.sim.network.up(self.connection, say.envelope, say.message)
        self.perform(self.life_connected())

    def disconnect(self, *, detect_s: float, reconnect_s: float) -> None:
        """Lose the connection, and make another one after a while."""
        if self.connection is None or self.is_dead:
            return
        self.sim.network.close(self.connection, detect_s)
        self.connection = None
        self.sim.at(self.sim.now + reconnect_s, self.connect)

    def hear(self, envelope: Envelope, message: MasterMessage) -> None:
        """Take in a message of the master, at once or when somebody listens."""
        if self.is_dead:
            return
        deaf_until = self.deaf_until()
        if self._backlog or self.is_stopped or deaf_until > self.sim.now:
            self._backlog.append((envelope, message))
            if len(self._backlog) == 1 and not self.is_stopped:
                self.sim.at(deaf_until, self.listen)
            return
        self.perform(self.life_heard(envelope, message))

    def listen(self) -> None:
        """Handle what has come meanwhile, as far as somebody listens."""
        while self._backlog and not self.is_stopped and not self.is_dead:
            deaf_until = self.deaf_until()
            if deaf_until > self.sim.now:
                self.sim.at(deaf_until, self.listen)
                return
            self.perform(self.life_heard(*self._backlog.popleft()))

    # --- time -------------------------------------------------------------------------------------

    def arm(self) -> None:
        """See to it that the machine is asked when its deadline comes."""
        deadline = self.life_deadline()
        if deadline is not None and (self._timer_at is None or deadline < self._timer_at):
            self._timer_at = deadline
            self.sim.at(max(deadline, self.sim.now), self._ring, deadline)

    def _ring(self, set_for: float) -> None:
        if self.is_dead or self._timer_at != set_for:
            return
        self._timer_at = None
        if self.is_stopped:
            return
        deaf_until = self.deaf_until()
        if deaf_until > self.sim.now:
            self._timer_at = deaf_until
            self.sim.at(deaf_until, self._ring, deaf_until)
            return
        deadline = self.life_deadline()
        if deadline is not None and deadline <= self.sim.now:
            self.perform(self.life_tick())
        else:
            self.arm()

    # --- suffering --------------------------------------------------------------------------------

    def stop(self, seconds: float) -> None:
        """Be stopped by a signal for a while."""
        if self.is_dead or self.is_stopped:
            return
        self.sim.note(self.name, "is stopped")
        self.is_stopped = True
        if seconds > HEARTBEAT_S:
            self.sim.at(self.sim.now + HEARTBEAT_S, self._fall_silent)
        self.sim.at(self.sim.now + seconds, self.go_on)

    def _fall_silent(self) -> None:
        if self.is_stopped and not self.is_dead and self.connection is not None:
            self.sim.network.close(self.connection, 0.0)
            self.connection = None
            self._wants_connection = True

    def go_on(self) -> None:
        """Be continued."""
        if self.is_dead:
            return
        self.sim.note(self.name, "goes on")
        self.is_stopped = False
        self.listen()
        if self._wants_connection:
            self.connect()
        self.arm()

    def die(self) -> None:
        """Be gone, with the connection."""
        self.is_dead = True
        if self.connection is not None:
            self.sim.network.close(self.connection, self.sim.faults.detect_s)
            self.connection = None

    # --- doing ------------------------------------------------------------------------------------

    def perform(self, commands: list[WorkerCommand]) -> None:
        """Carry out what the machine wants."""
        for command in commands:
            if self.is_dead:
                return
            if type(command) is Say:
                if self.connection is not None:
                    self.sim.network.up(self.connection, command.envelope, command.message)
                elif len(self._unsent) < 100:
                    self._unsent.append(command)
            else:
                self.do(command)
        if not self.is_dead:
            self.arm()

    def do(self, command: WorkerCommand) -> None:
        """Carry out one command that is not a message."""
        raise NotImplementedError
