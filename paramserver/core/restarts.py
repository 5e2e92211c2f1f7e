"""How many workers an agent keeps alive, and when it replaces the lost ones. Pure.

Rule 1: it counts and decides; it starts nothing, kills nothing and reads no clock.
Rule 2: a lost worker is replaced at once, until its line proves to be a crash loop.
Rule 3: a *line* is a worker, its replacement, the replacement of that one, and so on. Back-off
        belongs to the line, so that ten workers killed in one stroke are ten first losses and not
        one crash loop.
Rule 4: it forgets whoever has ended: its memory does not grow with the number of restarts.
"""

from __future__ import annotations

from dataclasses import dataclass

from paramserver.errors import InvalidTransition


@dataclass(frozen=True, slots=True)
class RestartLimits:
    """The numbers of the policy.

    Parameters
    ----------
    n_free : int
        Futile lives in a row that a line may have before it has to wait.
    short_life_s : float
        A life is futile when it was shorter than this and ended no job.
    first_delay_s, max_delay_s : float
        The first wait; it doubles with each further futile life up to the last.
    n_launches : int
        Deaths in a row, before any worker was ever ready, that mean workers cannot be launched.
    """

    n_free: int = 3
    short_life_s: float = 10.0
    first_delay_s: float = 0.5
    max_delay_s: float = 30.0
    n_launches: int = 3

    def delay_s(self, n_futile: int) -> float:
        """Return how long a line with so many futile lives in a row has to wait."""
        beyond = n_futile - self.n_free
        if beyond <= 0:
            return 0.0
        # The exponent is capped before 2**n could overflow a float, in a loop of 1,100 restarts.
        return min(self.max_delay_s, self.first_delay_s * 2.0 ** min(beyond - 1, 62))


@dataclass(slots=True)
class _Life:
    started: float
    n_futile: int
    """Futile lives of its line just before this one."""
    retired: bool = False


@dataclass(frozen=True, slots=True, order=True)
class _Vacancy:
    due: float
    n_futile: int


class RestartPolicy:
    """Keep `n` workers alive.

    Parameters
    ----------
    limits : RestartLimits
        The numbers of the policy.

    Notes
    -----
    Not thread-safe. `now` is in seconds and monotonic. Retired workers count as gone at once.
    """

    def __init__(self, limits: RestartLimits | None = None) -> None:
        self.limits = limits or RestartLimits()
        self._target = 0
        self._lives: dict[str, _Life] = {}
        self._vacancies: list[_Vacancy] = []
        self._n_failed_launches = 0
        self._ever_ready = False

    @property
    def target(self) -> int:
        """Number of workers that are kept alive."""
        return self._target

    @property
    def was_ever_ready(self) -> bool:
        """Whether any worker has ever come up."""
        return self._ever_ready

    @property
    def launch_is_hopeless(self) -> bool:
        """Whether workers died again and again before any was ever ready."""
        return not self._ever_ready and self._n_failed_launches >= self.limits.n_launches

    def scale(self, n: int, now: float) -> None:
        """Keep `n` workers alive from now on; whoever is too many is left to be retired."""
        self._target = n
        self._fill(now)

    def due(self, now: float) -> int:
        """Return how many workers are to be started now."""
        return sum(1 for vacancy in self._vacancies if vacancy.due <= now)

    def next_deadline(self) -> float | None:
        """Return when a replacement is due next; None when none is."""
        return self._vacancies[0].due if self._vacancies else None

    def started(self, worker_id: str, now: float) -> None:
        """Note that a worker that was due has been started, under a name never used before."""
        if worker_id in self._lives or not self._vacancies:
            raise InvalidTransition(f"{worker_id} was started though it was not due.", story=())
        vacancy = self._vacancies.pop(0)
        self._lives[worker_id] = _Life(now, vacancy.n_futile)

    def start_failed(self, now: float) -> None:
        """Note that the worker that was due could not be started at all."""
        if not self._vacancies:
            raise InvalidTransition("A start failed though none was due.", story=())
        vacancy = self._vacancies.pop(0)
        self._n_failed_launches += 1
        self._replace(vacancy.n_futile + 1, now)

    def ready(self) -> None:
        """Note that some worker has come up and said so: workers can be launched here."""
        self._ever_ready = True
        self._n_failed_launches = 0

    def retire(self, worker_id: str) -> None:
        """Expect this worker to leave and do not replace it; unknown names are ignored."""
        life = self._lives.get(worker_id)
        if life is None or life.retired:
            return
        life.retired = True
        self._target = min(self._target, self._n_staying() + len(self._vacancies))

    def exited(self, worker_id: str, now: float, n_ended: int, *, was_halted: bool = False) -> bool:
        """Note that a worker is gone, after having ended so many jobs.

        Parameters
        ----------
        worker_id : str
        now : float
        n_ended : int
        was_halted : bool
            It was killed since somebody had stopped it before it had come up: that says nothing
            of whether workers can be launched.

        Returns
        -------
        bool
            Whether it was expected to go (it was retired).
        """
        life = self._lives.pop(worker_id, None)
        if life is None:
            raise InvalidTransition(f"{worker_id} exited without having been started.", story=())
        if life.retired:
            return True
        if n_ended:
            self._ever_ready = True
        if not self._ever_ready and not was_halted:
            self._n_failed_launches += 1
        is_futile = n_ended == 0 and now - life.started < self.limits.short_life_s
        self._replace(life.n_futile + 1 if is_futile else 0, now)
        return False

    def check(self) -> None:
        """Assert what ties the fields together."""
        staying = self._n_staying()
        assert self._vacancies == sorted(self._vacancies)
        assert staying + len(self._vacancies) >= self._target
        assert not self._vacancies or staying + len(self._vacancies) == self._target

    def _n_staying(self) -> int:
        return sum(1 for life in self._lives.values() if not life.retired)

    def _replace(self, n_futile: int, now: float) -> None:
        if self._n_staying() + len(self._vacancies) < self._target:
            self._vacancies.append(_Vacancy(now + self.limits.delay_s(n_futile), n_futile))
            self._vacancies.sort()

    def _fill(self, now: float) -> None:
        wanted = max(0, self._target - self._n_staying())
        del self._vacancies[wanted:]  # the ones that would have waited longest
        fresh = wanted - len(self._vacancies)
        self._vacancies = sorted([*self._vacancies, *[_Vacancy(now, 0)] * fresh])
