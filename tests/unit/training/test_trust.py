"""Who is accused of pushing what it should not, and who is not."""

from __future__ import annotations

import pytest

from paramserver.training.pushes import Push, Verdict
from paramserver.training.trust import FAULTS, MAX_STRIKES, Trust


def push(incarnation: int, partition: int = 0, epoch: int = 0) -> Push:
    return Push(incarnation, 1, epoch, partition, 0, 0)


@pytest.mark.parametrize("verdict", sorted(FAULTS))
def test_the_third_push_that_is_not_as_agreed_is_one_too_many(verdict: Verdict) -> None:
    trust = Trust()
    answers = [trust.refuse(push(7, partition), verdict) for partition in range(MAX_STRIKES + 2)]
    assert answers == [False, False, True, False, False]  # it is said once


@pytest.mark.parametrize(
    "verdict", [Verdict.STOP, Verdict.DUPLICATE, Verdict.GAP, Verdict.STALE, Verdict.DIVERGED]
)
def test_what_may_happen_to_an_honest_worker_is_never_held_against_it(verdict: Verdict) -> None:
    trust = Trust()
    assert not any(trust.refuse(push(7), verdict) for _ in range(100))


def test_strikes_are_counted_for_each_life_alone() -> None:
    trust = Trust()
    for incarnation in (1, 2, 1, 2):
        assert not trust.strike(incarnation)
    trust.forget(1)
    assert [trust.strike(1), trust.strike(2)] == [False, True]


def test_data_that_are_not_finite_are_nobodys_fault() -> None:
    """Each worker that tries gives up, and is told the same."""
    trust = Trust()
    for incarnation in (1, 2, 1, 2):
        trust.begin(incarnation, (0, 0))
        assert not trust.refuse(push(incarnation), Verdict.NONFINITE)


def test_who_pushes_on_after_a_gradient_that_is_not_finite_is_accused() -> None:
    trust = Trust()
    trust.begin(7, (0, 0))
    answers = [trust.refuse(push(7), Verdict.NONFINITE) for _ in range(MAX_STRIKES + 1)]
    assert answers == [False, False, False, True]


def test_who_cannot_do_again_and_again_what_another_one_can_is_accused() -> None:
    trust = Trust()
    accused = []
    for partition in range(4):
        trust.begin(7, (0, partition))
        assert not trust.refuse(push(7, partition), Verdict.NONFINITE)
        trust.begin(8, (0, partition))
        accused.append(trust.finish((0, partition), 8))
    assert accused == [[], [], [7], []]


def test_who_has_done_it_after_all_is_not_accused() -> None:
    trust = Trust()
    for _ in range(MAX_STRIKES):
        trust.begin(7, (0, 0))
        assert not trust.refuse(push(7), Verdict.NONFINITE)
        assert trust.finish((0, 0), 7) == []
    assert not trust.strike(7)


def test_who_alone_has_tried_some_work_in_vain_is_known() -> None:
    trust = Trust()
    assert trust.only_doubted((0, 0)) is None
    for _ in range(4):
        trust.begin(7, (0, 0))
        trust.refuse(push(7), Verdict.NONFINITE)
    assert trust.only_doubted((0, 0)) == 7
    assert trust.only_doubted((0, 1)) is None
    trust.refuse(push(8), Verdict.NONFINITE)
    assert trust.only_doubted((0, 0)) is None


def test_a_life_that_is_over_is_forgotten() -> None:
    trust = Trust()
    trust.refuse(push(7), Verdict.NONFINITE)
    trust.forget(7)
    assert [trust.finish((0, 0), 8) for _ in range(3)] == [[], [], []]
    assert not any(trust.strike(7) for _ in range(MAX_STRIKES - 1))
