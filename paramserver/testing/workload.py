"""What a simulated cluster is asked to do: jobs whose every try is scripted. Values only.

Rule 1: the right answer to a job follows from the script alone, whatever the failures.
Rule 2: numbers and durations are drawn from the random source that is handed in, and nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from random import Random
from typing import NamedTuple

from paramserver.core.jobs import JobOptions, PhaseSpec

NEVER_POISON = 1_000_000
"""As `max_lost`: no number of lost workers makes a job poison."""


class Fate(Enum):
    """What becomes of every try of a job that is not hit by a fault."""

    GOOD = "good"
    RAISES = "raises"
    KILLS = "kills its worker"
    HANGS = "never ends"


class JobScript(NamedTuple):
    """One job."""

    job: int
    seconds: float
    fate: Fate = Fate.GOOD
    n_errors: int = 0
    """Tries that raise before it works."""
    n_calls: int = 0
    """Questions that it asks a service while it runs."""
    is_deaf: bool = False
    """It holds the interpreter lock: its worker hears nothing until it ends."""
    affinity: str | None = None


@dataclass(frozen=True)
class PhaseScript:
    """One phase and its jobs."""

    spec: PhaseSpec
    jobs: tuple[JobScript, ...]
    submit_at: float = 0.0
    """Seconds after the start; the second half of the jobs comes a moment later."""


@dataclass(frozen=True)
class Workload:
    """Phases of scripted jobs."""

    phases: tuple[PhaseScript, ...]

    @classmethod
    def map_reduce(
        cls,
        n_map: int = 30,
        n_reduce: int = 60,
        *,
        seconds: float = 0.05,
        options: JobOptions | None = None,
    ) -> Workload:
        """Make the project's main job: a phase of maps, a barrier, a phase of reduces."""
        options = options or JobOptions(max_failures=4, max_lost=NEVER_POISON, pure=True)
        maps = tuple(JobScript(job, seconds) for job in range(1, n_map + 1))
        reduces = tuple(JobScript(1000 + job, seconds) for job in range(1, n_reduce + 1))
        return cls(
            (
                PhaseScript(PhaseSpec(1, "map", options, keep=True), maps),
                PhaseScript(PhaseSpec(2, "reduce", options, after=1, keep=True), reduces),
            )
        )

    @classmethod
    def random(cls, rng: Random, *, n_max: int = 30, is_good: bool = False) -> Workload:
        """Draw phases and jobs; with `is_good` every job ends well unless it is cancelled."""
        phases = []
        number = 1
        for _ in range(rng.choice((1, 1, 1, 2))):
            scale = rng.choice((0.0003, 0.002, 0.03, 0.3))
            options = _random_options(rng, scale, is_good=is_good)
            has_reduce = rng.random() < 0.6
            n_jobs = rng.randint(0 if has_reduce else 1, n_max)
            start = rng.choice((0.0, 0.0, scale * rng.random() * 10))
            spec = PhaseSpec(number, "map", options, keep=has_reduce)
            jobs = _random_jobs(rng, number * 1000, n_jobs, scale, options, is_good=is_good)
            phases.append(PhaseScript(spec, jobs, start))
            number += 1
            if has_reduce:
                options = _random_options(rng, scale, is_good=is_good)
                after = PhaseSpec(number, "reduce", options, after=number - 1, keep=False)
                n_jobs = rng.randint(1, n_max)
                jobs = _random_jobs(rng, number * 1000, n_jobs, scale, options, is_good=is_good)
                late = start + rng.choice((0.0, 0.0, scale * 20))
                phases.append(PhaseScript(after, jobs, late))
                number += 1
        return cls(tuple(phases))

    @cached_property
    def scripts(self) -> dict[int, JobScript]:
        """Every job by its number."""
        return {job.job: job for phase in self.phases for job in phase.jobs}

    @cached_property
    def phase_of(self) -> dict[int, PhaseScript]:
        """The phase of every job."""
        return {job.job: phase for phase in self.phases for job in phase.jobs}

    @cached_property
    def by_number(self) -> dict[int, PhaseScript]:
        """Every phase by its number."""
        return {phase.spec.phase: phase for phase in self.phases}

    @cached_property
    def ideal_s(self) -> float:
        """Work in all, on one worker, with the tries that raise."""
        total = 0.0
        for number, job in self.scripts.items():
            most = self.phase_of[number].spec.options.max_failures
            total += job.seconds * (most if job.fate is Fate.RAISES else 1 + job.n_errors)
        return total

    def makers(self, job: int) -> tuple[JobScript, ...]:
        """Return the jobs whose results this job needs, in order."""
        after = self.phase_of[job].spec.after
        return () if after is None else self.by_number[after].jobs

    @cached_property
    def answers(self) -> dict[int, bytes]:
        """The right result of every job."""
        return {number: answer_of(number, self._needed(number)) for number in self.scripts}

    def _needed(self, number: int) -> Iterator[bytes]:
        for maker in self.makers(number):
            yield b"%d" % maker.job


def answer_of(job: int, inputs: Iterator[bytes]) -> bytes:
    """Compute a job's result: it names the job and depends on every input and their order."""
    checksum = 0
    for one in inputs:
        checksum = zlib.crc32(one, checksum)
    return b"%d/%d" % (job, checksum)


def _random_options(rng: Random, scale: float, *, is_good: bool) -> JobOptions:
    has_deadline = not is_good and rng.random() < 0.4
    has_lease = has_deadline and rng.random() < 0.3
    limit = 40 * scale + 0.05
    return JobOptions(
        max_failures=4 if is_good else rng.randint(1, 4),
        max_timeouts=rng.randint(1, 3),
        max_lost=NEVER_POISON if is_good else rng.randint(1, 4),
        timeout_s=limit if has_deadline and not has_lease else None,
        lease_s=limit if has_lease else None,
        priority=rng.choice((0, 0, 1, -1)),
        pure=rng.random() < 0.5,
    )


def _random_jobs(
    rng: Random, first: int, n: int, scale: float, options: JobOptions, *, is_good: bool
) -> tuple[JobScript, ...]:
    shape = rng.choice(("equal", "exponential", "mixed"))
    n_calls = rng.choice((0, 0, 0, 1, 3))
    n_affinities = rng.choice((0, 0, 3))
    bad: tuple[Fate, ...] = (Fate.RAISES, Fate.KILLS)
    if options.timeout_s is not None or options.lease_s is not None:
        bad = (*bad, Fate.HANGS)
    p_bad = 0.0 if is_good else rng.choice((0.0, 0.0, 0.05, 0.3))
    p_error = rng.choice((0.0, 0.1)) if options.max_failures > 1 else 0.0
    jobs = []
    for number in range(first, first + n):
        seconds = scale
        if shape == "exponential":
            seconds = scale * rng.expovariate(1.0)
        elif shape == "mixed":
            seconds = scale * (30 if rng.random() < 0.1 else 0.5)
        jobs.append(
            JobScript(
                number,
                seconds,
                rng.choice(bad) if rng.random() < p_bad else Fate.GOOD,
                rng.randint(1, options.max_failures - 1) if rng.random() < p_error else 0,
                n_calls if rng.random() < 0.3 else 0,
                rng.random() < 0.1,
                f"data-{rng.randrange(n_affinities)}" if n_affinities else None,
            )
        )
    return tuple(jobs)
