"""What a cluster is asked to run in one go: phases of calls, one after the other. Values only.

Rule 1: the calls of a phase are independent; a phase starts when the one before is complete.
Rule 2: a call names a function of a module and carries plain values (and, in the local trust
        domain, whatever can be pickled); it never carries the data that phases hand to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""Called with (name of the phase, calls done, calls in all), about every 0.1 s."""


@dataclass(frozen=True, slots=True)
class Call:
    """One function call, to be made on some worker.

    Attributes
    ----------
    fn : callable
        A function of a module.
    args, kwargs
        Its arguments. In a phase with `wants_inputs` the results of the phase before come first.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PhaseCalls:
    """Independent calls under one name.

    Attributes
    ----------
    name : str
        Shown in progress and errors.
    calls : sequence of Call
    pure : bool
        The calls may run twice at the same time: backup copies of stragglers are allowed.
    max_failures : int
        Tries of a call whose function raises, before the plan fails.
    max_lost : int
        Workers lost under a call until it is taken to be the cause, and the plan fails.
    wants_inputs : bool
        Each call gets the list of all results of the phase before, in the order of its calls, as
        its first argument.
    """

    name: str
    calls: Sequence[Call]
    pure: bool = True
    max_failures: int = 4
    max_lost: int = 3
    wants_inputs: bool = False
