"""Results of joblib's calls as pickles: whole, or refused before they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import SGDRegressor

from paramserver.errors import RemoteProtocolError
from paramserver.joblib_results import run_and_pack, unpack
from paramserver.protocol.arrays import pack_plain, unpack_plain

READ: list[str] = []


def note() -> None:
    READ.append("read")


class Canary:
    """Notes that it was read."""

    def __reduce__(self) -> Any:
        return note, ()


def test_an_estimator_and_its_arrays_come_back_whole_by_plain_values() -> None:
    X = np.random.default_rng(0).standard_normal((50, 2000))
    model = SGDRegressor(random_state=0).fit(X, X[:, 0])
    sent: list[Any] = []
    data = pack_plain(run_and_pack(lambda: [model, "and words", None]), sent)
    again, words, nothing = unpack(unpack_plain(data, sent, writable=True))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.coef_.flags.writeable
    assert (words, nothing) == ("and words", None)


@pytest.mark.parametrize(
    "spoil",
    [
        tuple,
        lambda pieces: pieces[0],
        lambda pieces: [],
        lambda pieces: [pieces[0].tobytes()],
        lambda pieces: [pieces[0].view(np.int8)],
        lambda pieces: [pieces[0][:, None]],
        lambda pieces: [*pieces, "more"],
        lambda pieces: None,
    ],
)
def test_what_has_another_form_is_refused_unread(spoil: Any) -> None:
    pieces = run_and_pack(Canary)
    assert [type(piece) for piece in pieces] == [np.ndarray]
    READ.clear()
    with pytest.raises(RemoteProtocolError, match="no list of bytes"):
        unpack(spoil(pieces))
    assert READ == []
    unpack(pieces)
    assert READ == ["read"]  # or nothing would be shown here
