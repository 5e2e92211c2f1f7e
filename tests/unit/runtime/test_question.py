"""Questions of other threads: whoever asks is answered."""

from __future__ import annotations

from typing import Any

import pytest

from paramserver.errors import ClusterClosed
from paramserver.runtime.question import Question

MACHINE: Any = {"jobs": 3}


def test_a_question_is_answered_with_what_it_finds_or_with_what_it_raises() -> None:
    found: Question[int] = Question(lambda machine: machine["jobs"])  # type: ignore[index]
    found.put_to(MACHINE)
    assert found.answer.result(0) == 3
    missed: Question[int] = Question(lambda machine: machine["none"])  # type: ignore[index]
    missed.put_to(MACHINE)
    with pytest.raises(KeyError):
        missed.answer.result(0)


@pytest.mark.parametrize("failure", [None, OSError("disk")])
def test_a_question_that_came_too_late_is_refused_with_what_ended_the_master(
    failure: OSError | None,
) -> None:
    late: Question[int] = Question(lambda machine: 1)
    late.refuse(failure)
    with pytest.raises(ClusterClosed, match="has been shut down") as caught:
        late.answer.result(0)
    assert caught.value.__cause__ is failure
