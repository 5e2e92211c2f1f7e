"""The largest eigenvalue, by every way there is to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from paramserver.errors import DataError
from paramserver.models import spectrum


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [np.asarray, csr_array])
def test_rows_that_cannot_be_squared_are_refused_in_words(kind: Any) -> None:
    X = kind(np.full((5, 3), -1e200))
    with pytest.raises(DataError, match=r"as large as 1e\+200 cannot be squared.*StandardScaler"):
        spectrum.largest_eigenvalue(X)


@pytest.mark.parametrize("small", [1_000, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("n", "d"), [(40, 9), (9, 40), (12, 12), (11, 12)])
def test_it_is_that_of_the_weighted_second_moments_with_a_column_of_ones(
    n: int, d: int, sparse: bool, weighted: bool, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectrum, "SMALL", small)
    rng = np.random.default_rng(0)
    X = np.where(rng.random((n, d)) < 0.5, rng.standard_normal((n, d)), 0)
    weight = rng.uniform(0, 3, n) if weighted else None
    X1 = np.hstack([X, np.ones((n, 1))])
    moments = X1.T @ (X1 * (1.0 if weight is None else weight[:, None])) / n
    found = spectrum.largest_eigenvalue(csr_array(X) if sparse else X, weight)
    assert found == pytest.approx(np.linalg.eigvalsh(moments)[-1], rel=1e-9)
