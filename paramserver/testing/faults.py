"""What goes wrong in a simulated run: how often, for how long. Values only.

Rule 1: a plan says what may happen; the simulation's seed says when and to whom.
Rule 2: every fault here is one that real processes have: killed, stopped, cut off, slow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from random import Random
from typing import NamedTuple


class CrashAt(NamedTuple):
    """Crash one worker just after the master has handled its n-th event."""

    event: int
    worker: int
    """Which of the living ones, by a count that wraps around."""
    is_reported: bool
    """Whether its agent tells."""


@dataclass(frozen=True)
class FaultPlan:
    """The faults of one run; as it stands, none.

    Attributes
    ----------
    latency_s : float
        Mean time of a message on its way.
    drop, duplicate, reorder : float
        Chances of each message.
    detect_s : float
        From the end of a connection to the master's knowing of it.
    is_remote : bool
        The agents are processes of their own, and speak with the master over the network.
    n_crashes, n_disconnects, n_stops, n_pauses, n_partitions, n_agent_crashes : int
        Workers killed, connections broken, workers stopped and continued, pauses of the master,
        workers that for a while are not heard or do not hear, agents killed with their workers
        (another one, under another name, is started on the same machine).
    unreported : float
        Chance that an agent never tells of a death.
    same_name : float
        Chance that a dead worker comes back under its own name.
    restart_s : float
        From a death to the replacement's greeting.
    stop_s : float
        Mean length of stops, pauses and partitions.
    n_stragglers : int
    straggler_factor : float
        How much slower those are.
    n_cancels, n_withdrawals : int
        Jobs that their owner cancels at some moment, or before they are first granted.
    n_lost_outputs : int
        Results of a phase that others wait for that can no longer be read.
    n_accused : int
        Workers that a service finds not to be trusted.
    n_retired, n_evicted, n_late : int
        Workers told by the master to leave; by a signal; workers that come later.
    all_die : bool
        At one moment all workers are killed; replacements come.
    crash_at : CrashAt or None
    """

    latency_s: float = 0.0002
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    detect_s: float = 0.012
    is_remote: bool = False
    n_crashes: int = 0
    n_disconnects: int = 0
    n_stops: int = 0
    n_pauses: int = 0
    n_partitions: int = 0
    n_agent_crashes: int = 0
    unreported: float = 0.0
    same_name: float = 0.0
    restart_s: float = 0.3
    stop_s: float = 2.0
    n_stragglers: int = 0
    straggler_factor: float = 50.0
    n_cancels: int = 0
    n_withdrawals: int = 0
    n_lost_outputs: int = 0
    n_accused: int = 0
    n_retired: int = 0
    n_evicted: int = 0
    n_late: int = 0
    all_die: bool = False
    crash_at: CrashAt | None = None

    @classmethod
    def random(cls, rng: Random, *, cancels: bool = True) -> FaultPlan:
        """Draw a few kinds of faults, and how often each."""
        chosen: dict[str, float | int | bool] = {"is_remote": rng.random() < 0.4}
        if rng.random() < 0.3:
            chosen["latency_s"] = rng.choice((0.00005, 0.002, 0.02))
        kinds = list(_KINDS) if cancels else [kind for kind in _KINDS if kind not in _CANCELS]
        for kind in rng.sample(kinds, rng.randint(0, 5)):
            chosen |= {name: draw(rng) for name, draw in _KINDS[kind].items()}
        chosen["same_name"] = rng.choice((0.0, 0.0, 0.5, 1.0))
        chosen["restart_s"] = rng.choice((0.0005, 0.02, 0.3, 8.0))
        return cls(**chosen)  # type: ignore[arg-type]

    @property
    def is_noisy(self) -> bool:
        """Messages may be lost, doubled or overtaken."""
        return bool(self.drop or self.duplicate or self.reorder)

    @property
    def is_quiet(self) -> bool:
        """Nothing happens that could make a worker look lost, stuck or slow."""
        is_fast = self.latency_s < 0.001 and not self.is_noisy
        return is_fast and not any(
            (
                self.n_crashes,
                self.n_disconnects,
                self.n_stops,
                self.n_pauses,
                self.n_partitions,
                self.n_agent_crashes,
                self.n_stragglers,
                self.n_accused,
                self.all_die,
                self.crash_at,
            )
        )

    def __repr__(self) -> str:
        told = (
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        )
        return f"FaultPlan({', '.join(told)})"


_KINDS: dict[str, dict[str, Callable[[Random], float]]] = {
    "noise": {
        "drop": lambda rng: rng.choice((0.0, 0.02, 0.2)),
        "duplicate": lambda rng: rng.choice((0.0, 0.02, 0.2)),
        "reorder": lambda rng: rng.choice((0.0, 0.02, 0.2)),
    },
    "crashes": {
        "n_crashes": lambda rng: rng.randint(1, 8),
        "unreported": lambda rng: rng.choice((0.0, 0.0, 0.5, 1.0)),
    },
    "disconnects": {"n_disconnects": lambda rng: rng.randint(1, 10)},
    "stops": {
        "n_stops": lambda rng: rng.randint(1, 5),
        "stop_s": lambda rng: rng.choice((0.01, 2.0, 12.0)),
    },
    "pauses": {
        "n_pauses": lambda rng: rng.randint(1, 3),
        "stop_s": lambda rng: rng.choice((0.05, 2.0, 20.0)),
    },
    "partitions": {
        "n_partitions": lambda rng: rng.randint(1, 5),
        "stop_s": lambda rng: rng.choice((0.05, 2.0, 20.0)),
    },
    "agent crashes": {"n_agent_crashes": lambda rng: rng.randint(1, 2)},
    "stragglers": {
        "n_stragglers": lambda rng: rng.randint(1, 2),
        "straggler_factor": lambda rng: rng.choice((5.0, 50.0)),
    },
    "cancels": {"n_cancels": lambda rng: rng.randint(1, 10)},
    "withdrawals": {"n_withdrawals": lambda rng: rng.randint(1, 10)},
    "lost outputs": {"n_lost_outputs": lambda rng: rng.randint(1, 6)},
    "scaling": {
        "n_retired": lambda rng: rng.randint(0, 3),
        "n_evicted": lambda rng: rng.randint(0, 4),
        "n_late": lambda rng: rng.randint(0, 3),
    },
    "all die": {"all_die": lambda rng: True},
    "accusations": {"n_accused": lambda rng: rng.randint(1, 4)},
}
_CANCELS = ("cancels", "withdrawals")
