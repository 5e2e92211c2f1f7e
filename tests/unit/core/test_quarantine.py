"""What is held against a machine, and who answers for it."""

from __future__ import annotations

import pytest

from paramserver.core.quarantine import (
    COOL_DOWN_ACCUSED_S,
    COOL_DOWN_MAX_S,
    COOL_DOWN_S,
    ORIGINS_KEPT,
    QUARANTINE_AFTER,
    Origin,
    Standing,
    Standings,
)

HERE, THERE = Origin("worker", "192.0.2.1"), Origin("worker", "192.0.2.2")
NOW = 100.0


@pytest.fixture
def standings() -> Standings:
    return Standings()


def held_against(standing: Standing) -> tuple[int, float, float]:
    return (standing.losses_in_row, standing.cool_down_s, standing.quarantined_until)


NOTHING = held_against(Standing())


def test_losses_in_a_row_bring_growing_quarantine(standings: Standings) -> None:
    machine = standings.begin(HERE)
    losses = [standings.note_loss(machine, 1.0) for _ in range(QUARANTINE_AFTER)]
    assert losses == [False] * (QUARANTINE_AFTER - 1) + [True]
    assert machine.quarantined_until == 1.0 + COOL_DOWN_S
    assert not standings.note_loss(machine, 1.0 + COOL_DOWN_S / 2), "it is in quarantine already"
    now, waits = 2.0, []
    for _ in range(9):
        assert standings.note_loss(machine, now)
        waits.append(machine.quarantined_until - now)
        now = machine.quarantined_until
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0] + [COOL_DOWN_MAX_S] * 3


def test_a_job_that_ends_well_ends_the_row(standings: Standings) -> None:
    machine = standings.begin(HERE)
    for _ in range(QUARANTINE_AFTER):
        standings.note_loss(machine, 1.0)
    machine.note_success()
    losses = [standings.note_loss(machine, 5.0) for _ in range(QUARANTINE_AFTER)]
    assert losses == [False] * (QUARANTINE_AFTER - 1) + [True]
    assert machine.quarantined_until == 5.0 + COOL_DOWN_S


def test_accusations_bring_growing_quarantine_at_once(standings: Standings) -> None:
    machine = standings.begin(HERE)
    standings.note_accused(machine, 1.0)
    assert machine.quarantined_until == 1.0 + COOL_DOWN_ACCUSED_S
    standings.note_accused(machine, 2.0)
    assert machine.quarantined_until == 2.0 + 2 * COOL_DOWN_ACCUSED_S
    machine.note_success()
    standings.note_accused(machine, 3.0)  # what is longer counts
    assert machine.quarantined_until == 2.0 + 2 * COOL_DOWN_ACCUSED_S


def test_who_comes_from_where_somebody_was_to_blame_begins_with_the_blame(
    standings: Standings,
) -> None:
    machine = standings.begin(HERE)
    standings.note_accused(machine, NOW)
    for _ in range(QUARANTINE_AFTER - 1):
        standings.note_loss(machine, NOW)
    blame = (QUARANTINE_AFTER - 1, 2 * COOL_DOWN_ACCUSED_S, NOW + COOL_DOWN_ACCUSED_S)
    assert held_against(standings.begin(HERE)) == held_against(machine) == blame
    anew = standings.begin(HERE)
    assert held_against(anew) == blame, "however often it comes anew"
    assert standings.note_loss(anew, NOW + COOL_DOWN_ACCUSED_S), "the row goes on"
    assert held_against(standings.begin(THERE)) == NOTHING


def test_who_has_another_key_is_another_one(standings: Standings) -> None:
    standings.note_accused(standings.begin(HERE), NOW)
    assert held_against(standings.begin(HERE._replace(user="another"))) == NOTHING


def test_a_job_that_ends_well_clears_whoever_comes_next(standings: Standings) -> None:
    standings.note_accused(standings.begin(HERE), NOW)
    anew = standings.begin(HERE)
    anew.note_success()
    assert held_against(standings.begin(HERE)) == (0, COOL_DOWN_S, NOW + COOL_DOWN_ACCUSED_S)


def test_who_is_there_already_does_not_answer_for_others_of_its_address(
    standings: Standings,
) -> None:
    neighbour, sick = standings.begin(HERE), standings.begin(HERE)
    standings.note_accused(sick, NOW)
    assert held_against(neighbour) == NOTHING
    neighbour.note_success()
    assert standings.begin(HERE).quarantined_until == sick.quarantined_until, "nor clear them"


def test_a_clean_one_beside_it_hides_nobody(standings: Standings) -> None:
    """A machine may start a second agent first, to be known by that one afterwards."""
    first = standings.begin(HERE)
    second = standings.begin(HERE)
    standings.note_accused(first, NOW)
    standings.note_loss(second, NOW)
    standings.note_accused(first, NOW + 1)
    assert held_against(standings.begin(HERE)) == held_against(first)


def test_where_no_address_can_be_told_nobody_answers_for_another(standings: Standings) -> None:
    standings.note_accused(standings.begin(Origin("local")), NOW)
    assert held_against(standings.begin(Origin("local"))) == NOTHING
    assert len(standings) == 0


def test_only_origins_with_something_against_them_are_kept_and_the_latest_of_those(
    standings: Standings,
) -> None:
    for number in range(2 * ORIGINS_KEPT):
        standings.begin(Origin("worker", f"clean {number}"))
    assert len(standings) == 0
    machine = standings.begin(HERE)
    for number in range(2 * ORIGINS_KEPT):
        standings.note_loss(standings.begin(Origin("worker", f"sick {number}")), NOW)
        if number == ORIGINS_KEPT:
            standings.note_loss(machine, NOW)
    assert len(standings) == ORIGINS_KEPT
    assert held_against(standings.begin(HERE)) == held_against(machine)
    assert held_against(standings.begin(Origin("worker", "sick 0"))) == NOTHING
