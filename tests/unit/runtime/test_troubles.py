"""What jobs have raised: each traceback once."""

from __future__ import annotations

from paramserver.core.commands import AnnounceAttempt, AttemptEnd
from paramserver.errors import PeerLost
from paramserver.protocol.calls import encode_error
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.runtime.troubles import KINDS_MAX, Trouble, Troubles


def failed(error: Payload | None, worker_id: str = "w1", at: float = 2.0) -> AnnounceAttempt:
    return AnnounceAttempt("map", 7, 1, worker_id, 1.0, at, AttemptEnd.FAILED, False, error)


def raised(value: int) -> Payload:
    try:
        raise ValueError(f"no {value}")
    except ValueError as error:
        return encode_error(error, trusted=True)


def test_the_same_lines_of_code_are_one_error_whatever_they_say() -> None:
    troubles = Troubles()
    for value in (1, 2, 3):
        troubles.note(failed(raised(value), f"w{value}", float(value)))
    (trouble,) = troubles
    assert (trouble.error, trouble.n, trouble.worker_id) == ("ValueError: no 3", 3, "w3")
    assert (trouble.phase, trouble.at) == ("map", 3.0)
    assert trouble.traceback.startswith("Traceback")
    assert trouble.traceback.endswith("ValueError: no 1\n")


def test_other_places_are_other_errors() -> None:
    troubles = Troubles()
    troubles.note(failed(raised(1)))
    troubles.note(failed(encode_error(ValueError("elsewhere"), trusted=False)))
    assert [trouble.error for trouble in troubles] == ["ValueError: no 1", "ValueError: elsewhere"]
    assert len(troubles) == 2


def test_attempts_that_raised_nothing_are_passed_over() -> None:
    troubles = Troubles()
    troubles.note(failed(None))
    assert len(troubles) == 0


def test_jobs_that_the_master_itself_has_hung_up_on_are_passed_over() -> None:
    troubles = Troubles()
    troubles.note(
        failed(encode_error(PeerLost("not wanted any more", peer="master"), trusted=True))
    )
    assert len(troubles) == 0


def test_what_is_no_error_is_told_as_that() -> None:
    troubles = Troubles()
    troubles.note(failed(Payload(PayloadKind.PICKLE, b"what is this")))
    (trouble,) = troubles
    assert trouble == Trouble(trouble.error, "", "map", "w1", 1, 2.0)
    assert "is not the text of an error" in trouble.error


def test_it_does_not_grow_with_the_kinds_of_errors() -> None:
    troubles = Troubles()
    for i in range(KINDS_MAX + 5):
        kind = type(f"Error{i}", (Exception,), {})
        troubles.note(failed(encode_error(kind("x"), trusted=False)))
    assert len(troubles) == KINDS_MAX
    assert troubles.n_others == 5
