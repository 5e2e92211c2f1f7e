"""Which workers do again and again what they should not, in one training. Pure.

Rule 1: one refusal costs its worker the work behind it, no more; `MAX_STRIKES` of one life are no
        accident, and it is accused: once.
Rule 2: what may happen to an honest worker is no strike: late, repeated or early pushes. Nor is a
        gradient that is not finite: the data or the learning rate may be to blame. It becomes a
        strike when its sender pushes on instead of giving up, or when another worker has done that
        work.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from paramserver.training.pushes import Push, Verdict

MAX_STRIKES: Final = 3
FAULTS: Final = frozenset(
    {
        Verdict.MISMATCHED,
        Verdict.MISSHAPEN,
        Verdict.MISTYPED,
        Verdict.MISCOUNTED,
        Verdict.MISPLACED,
    }
)
"""What no honest worker pushes."""

Work = tuple[int, int]
"""An epoch and a partition."""


class Trust:
    """Counts strikes by the lives (incarnations) of workers."""

    def __init__(self) -> None:
        self.max_strikes = MAX_STRIKES
        self._strikes: Counter[int] = Counter()
        self._doubts: dict[Work, set[int]] = {}
        """Whose gradients of some work were not finite."""

    def strike(self, incarnation: int) -> bool:
        """Count something that no honest worker does; return whether to accuse it now."""
        self._strikes[incarnation] += 1
        return self._strikes[incarnation] == self.max_strikes

    def begin(self, incarnation: int, work: Work) -> None:
        """Take in that a worker begins anew with some work."""
        self._doubts.get(work, set()).discard(incarnation)

    def refuse(self, push: Push, verdict: Verdict) -> bool:
        """Take in that a push was not applied; return whether to accuse its worker now."""
        if verdict in FAULTS:
            return self.strike(push.incarnation)
        if verdict is not Verdict.NONFINITE:
            return False
        doubted = self._doubts.setdefault((push.epoch, push.partition), set())
        if push.incarnation in doubted:  # an honest one would have given up
            return self.strike(push.incarnation)
        doubted.add(push.incarnation)
        return False

    def finish(self, work: Work, incarnation: int) -> list[int]:
        """Take in that a worker has done some work; return whom to accuse now."""
        doubted = self._doubts.pop(work, set()) - {incarnation}
        return [each for each in sorted(doubted) if self.strike(each)]

    def only_doubted(self, work: Work) -> int | None:
        """Return the only worker who has tried some work in vain; None if there are several."""
        doubted = self._doubts.get(work, set())
        return next(iter(doubted)) if len(doubted) == 1 else None

    def forget(self, incarnation: int) -> None:
        """Drop what is known of a worker whose life is over."""
        self._strikes.pop(incarnation, None)
        for doubted in self._doubts.values():
            doubted.discard(incarnation)
