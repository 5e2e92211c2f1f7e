"""An estimator that the test of the grid search sends to workers."""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import SGDClassifier

from tests.conformance.joblib_jobs import die_once


class DeadlyClassifier(SGDClassifier):
    """Kills its worker at its first fit, whichever that is."""

    def __init__(
        self, mark: str = "", alpha: float = 1e-4, random_state: int | None = None
    ) -> None:
        super().__init__(alpha=alpha, random_state=random_state)
        self.mark = mark

    def fit(self, X: Any, y: Any) -> DeadlyClassifier:
        if self.mark:
            die_once(self.mark, 0)
        return super().fit(X, y)
