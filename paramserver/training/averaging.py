"""Iterative averaging, as decisions: who is waited for, and with which coefficients. No I/O.

::

    OPEN(round) --all partitions (or `wait_for` of them) done--> FOLDING --folded--> OPEN(round + 1)
                                                                    `--last, stop--> DONE

Rule 1: the coefficients are ``n_k / N`` of the examples this machine knows partition k to hold;
        what a worker claims counts for nothing.
Rule 2: terms are folded in the order of the partitions, so the result has the same bits whatever
        the order of arrival, and whoever died.
Rule 3: a result counts once, for the round it was made in; others are counted and dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from paramserver.errors import ConfigError, InvalidTransition


@dataclass(frozen=True, slots=True)
class StartRound:
    """Have each of these partitions trained from the current weights.

    Those that are still at work for an earlier round come later, each on its own.
    """

    round: int
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """Make the new weights: the sum of coefficient times result, in this order."""

    round: int
    partitions: tuple[int, ...]
    coefficients: tuple[float, ...]
    late: tuple[int, ...]
    """Partitions that were not waited for; what they are doing is of no use any more."""


@dataclass(frozen=True, slots=True)
class Finish:
    """There is no further round."""

    rounds: int


Command: TypeAlias = StartRound | Fold | Finish


class Averaging:
    """The rounds of one training.

    Parameters
    ----------
    n_examples : sequence of int
        How many examples each partition holds.
    rounds : int
    wait_for : int, optional
        Fold as soon as so many partitions are done; by default all of them.
    first_round : int
        Number of the first round; above 0 when an earlier training is continued.

    Attributes
    ----------
    round : int
        The round that is open, or was folded last.
    quorum : int
        How many partitions a round waits for.
    counters : Counter
        What was dropped, by reason.
    """

    def __init__(
        self,
        n_examples: Sequence[int],
        rounds: int,
        *,
        wait_for: int | None = None,
        first_round: int = 0,
    ) -> None:
        p = len(n_examples)
        if p < 1 or min(n_examples) < 1:
            raise ConfigError(
                "Each partition needs at least one example.", field="n_partitions", value=p
            )
        if wait_for is not None and not 1 <= wait_for <= p:
            raise ConfigError(
                f"wait_for must be between 1 and the number of partitions ({p}), not {wait_for}.",
                field="wait_for",
                value=wait_for,
            )
        self.n_examples = tuple(n_examples)
        self.rounds = rounds
        self.round = first_round
        self.counters: Counter[str] = Counter()
        self.quorum = p if wait_for is None else wait_for
        self._done: set[int] = set()
        self._running: dict[int, int] = {}
        """Round that each partition is at work for: a late one sits out until it is back."""
        self._is_open = False
        self._stops = False

    def start(self) -> list[Command]:
        """Open the first round."""
        if self.round >= self.rounds:
            return [Finish(self.round)]
        return [self._open()]

    def stop(self) -> None:
        """Let the open round be the last one."""
        self._stops = True

    def done(self, round: int, partition: int) -> list[Command]:  # noqa: A002 - the word for it
        """Take in that a partition's work for a round has ended."""
        if self._running.get(partition) == round:
            del self._running[partition]
        if round != self.round or not self._is_open:
            self.counters["late"] += 1
            return self._let_in(partition)
        if partition in self._done:
            self.counters["duplicate"] += 1
            return []
        self._done.add(partition)
        if len(self._done) < self.quorum:
            return []
        self._is_open = False
        there = tuple(sorted(self._done))
        total = sum(self.n_examples[k] for k in there)
        coefficients = tuple(self.n_examples[k] / total for k in there)
        late = tuple(k for k in range(len(self.n_examples)) if k not in self._done)
        self.counters["cancelled"] += len(late)
        return [Fold(self.round, there, coefficients, late)]

    def folded(self) -> list[Command]:
        """Take in that the new weights are there: open the next round, or finish."""
        if self._is_open or not self._done:
            raise InvalidTransition(
                "A fold was reported that was not asked for. This is a bug in paramserver; "
                "please report it.",
                story=(f"round {self.round}", f"open {self._is_open}", f"done {self._done}"),
            )
        self._done.clear()
        self.round += 1
        if self._stops or self.round >= self.rounds:
            return [Finish(self.round)]
        return [self._open()]

    def _open(self) -> StartRound:
        self._is_open = True
        free = tuple(k for k in range(len(self.n_examples)) if k not in self._running)
        self._running.update(dict.fromkeys(free, self.round))
        return StartRound(self.round, free)

    def _let_in(self, partition: int) -> list[Command]:
        """Let a partition that is back from an earlier round take part in this one."""
        if not self._is_open or partition in self._running or partition in self._done:
            return []
        self._running[partition] = self.round
        return [StartRound(self.round, (partition,))]
