"""`fit` with somebody watching."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import paramserver as ps
from paramserver.models.linear import Linear
from paramserver.training import session


def test_it_takes_what_the_training_takes_and_one_thing_more() -> None:
    ours = dict(inspect.signature(ps.fit).parameters)
    assert ours.pop("verbose").default is None
    assert ours == dict(inspect.signature(session.fit).parameters)
    doc = inspect.getdoc(ps.fit)
    assert doc is not None
    assert doc.index("resume : bool") < doc.index("verbose : bool") < doc.index("Returns\n----")


def test_what_is_shown_changes_no_weight(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    y = X @ np.array([1.0, -2.0, 3.0])
    mode = ps.Averaging(rounds=4, n_partitions=2)
    weights, said = [], []
    with ps.LocalCluster(1) as cluster:
        for verbose in (None, False, True):
            result = ps.fit(Linear(3), (X, y), mode=mode, cluster=cluster, verbose=verbose)
            weights.append(result.sha256)
            out, err = capsys.readouterr()
            assert out == ""
            said.append(err)
    assert len(set(weights)) == 1
    assert said[:2] == ["", ""]
    assert "4 rounds" in said[2].splitlines()[-1]
