"""What is held against a machine, and for how long it is left alone for it. Pure.

Rule 1: workers lost in a row, or one accusation, bring quarantine, each time for twice as long,
        until a job ends well there.
Rule 2: a new name clears nobody. An agent that has not been heard of begins with what is held
        against the latest one from the same `Origin`, be that gone or not.
Rule 3: from then on it is judged by itself. All machines may have one key, and many may come from
        one address (behind a router, through a tunnel): a sick one does not speak for the others.
Rule 4: the latest origins are remembered, of which something was held against somebody.
"""

from __future__ import annotations

from typing import Final, NamedTuple

QUARANTINE_AFTER: Final = 5
"""Workers lost in a row by one machine, with no job ended in between."""
COOL_DOWN_S: Final = 0.5
COOL_DOWN_MAX_S: Final = 60.0
COOL_DOWN_ACCUSED_S: Final = 10.0
"""At least, for a machine whose worker was accused: it lives, and would do so again at once."""
ORIGINS_KEPT: Final = 256
"""Some 90 KB. Who has more addresses than these is not known by them anyway."""


class Origin(NamedTuple):
    """Where a connection comes from, as its transport knows it: nothing that its maker says."""

    user: str = ""
    """Whose key it has shown."""
    address: str = ""
    """Of the machine at the far end; '' where there is none to tell (this machine, say)."""


class Standing:
    """What is held against the machine of one agent."""

    __slots__ = ("cool_down_s", "losses_in_row", "origin", "quarantined_until")

    def __init__(self, origin: Origin | None = None) -> None:
        self.origin = origin or Origin()
        self.losses_in_row = 0
        self.cool_down_s = COOL_DOWN_S
        """How long the next quarantine will be."""
        self.quarantined_until = 0.0

    def note_success(self) -> None:
        """Count a job that ended well: the machine works."""
        self.losses_in_row = 0
        self.cool_down_s = COOL_DOWN_S

    def quarantine(self, now: float, at_least_s: float = 0.0) -> None:
        """Have the machine left alone, longer than the last time."""
        cool_down_s = max(self.cool_down_s, at_least_s)
        self.quarantined_until = max(self.quarantined_until, now + cool_down_s)
        self.cool_down_s = min(2 * cool_down_s, COOL_DOWN_MAX_S)


class Standings:
    """The standings of all machines that something was ever held against. See the rules above."""

    def __init__(self) -> None:
        self._by_origin: dict[Origin, Standing] = {}
        """The one to go by where somebody new comes from there; the latest origin last."""

    def __len__(self) -> int:
        return len(self._by_origin)

    def begin(self, origin: Origin) -> Standing:
        """Return how an agent stands that has not been heard of."""
        standing = Standing(origin)
        former = self._by_origin.get(origin)
        if former is not None:
            standing.losses_in_row = former.losses_in_row
            standing.cool_down_s = former.cool_down_s
            standing.quarantined_until = former.quarantined_until
            self._remember(standing)
        return standing

    def note_loss(self, standing: Standing, now: float) -> bool:
        """Count a lost worker; return whether the machine is put in quarantine by it."""
        self._remember(standing)
        standing.losses_in_row += 1
        if standing.losses_in_row < QUARANTINE_AFTER or now < standing.quarantined_until:
            return False
        standing.quarantine(now)
        return True

    def note_accused(self, standing: Standing, now: float) -> None:
        """Put the machine in quarantine since a worker of it is not to be trusted."""
        self._remember(standing)
        standing.quarantine(now, COOL_DOWN_ACCUSED_S)

    def _remember(self, standing: Standing) -> None:
        origin = standing.origin
        if not origin.address:
            return
        self._by_origin.pop(origin, None)
        self._by_origin[origin] = standing
        if len(self._by_origin) > ORIGINS_KEPT:
            del self._by_origin[next(iter(self._by_origin))]
