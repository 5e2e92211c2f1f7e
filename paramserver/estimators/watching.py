"""When a fit has gone far enough, by the rule of scikit-learn's own estimators."""

from __future__ import annotations

from math import inf

from paramserver.training.result import Progress


class Watching:
    """Ends a training that does not get better; a callback of `fit`.

    Parameters
    ----------
    tol : float or None
        A round whose loss is not below the best one by that much (or whose validation score is not
        above it) is one without improvement. None never ends.
    patience : int
        After so many of them in a row it is enough.
    by_score : bool
        Watch the score on rows held out, not the loss.
    verbose : bool
        Print a line for each round, and what is waited for.

    Attributes
    ----------
    n_rounds : int
        How many have been seen.
    losses : list of float
        After each of them.
    has_converged : bool
    """

    def __init__(self, tol: float | None, patience: int, *, by_score: bool, verbose: bool) -> None:
        self.n_rounds = 0
        self.losses: list[float] = []
        self.has_converged = False
        self._tol = -inf if tol is None else tol
        self._patience = patience
        self._by_score = by_score
        self._verbose = verbose
        self._best = inf
        self._n_worse = 0

    def hear(self, words: str) -> None:
        """Print what the training waits for."""
        if self._verbose:
            print(words, flush=True)

    def begin_anew(self) -> None:
        """Watch another training of the same fit: it may take as long to get better."""
        self._n_worse, self.has_converged = 0, False

    def __call__(self, progress: Progress) -> bool:
        """Take in a round; say whether it is enough."""
        self.n_rounds += 1
        self.losses.append(progress.train_loss)
        score = progress.test_score
        value = -score if self._by_score and score is not None else progress.train_loss
        self._n_worse = self._n_worse + 1 if value > self._best - self._tol else 0
        self._best = min(self._best, value)
        self.has_converged = self._n_worse >= self._patience
        if self._verbose:
            said = "" if score is None else f", validation score {score:.6f}"
            print(f"Round {self.n_rounds}: loss {progress.train_loss:.6f}{said}", flush=True)
        return self.has_converged
