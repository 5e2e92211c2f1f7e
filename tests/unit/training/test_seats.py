"""Who may push for which partition."""

from __future__ import annotations

from paramserver.training.seats import Seats, Ticket


def test_who_joins_may_push_with_its_ticket_and_nobody_with_another_number() -> None:
    seats = Seats()
    number = seats.take(3, 0, 1)
    assert seats.admit(number, 5) == Ticket(3, 0, 1)
    assert seats.admit(number ^ 1, 6) is None


def test_who_joins_later_for_a_partition_unseats_who_sat_there() -> None:
    seats = Seats()
    first, second = seats.take(3, 0, 1), seats.take(4, 0, 1)
    assert [seats.admit(first, 5), seats.admit(second, 6)] == [None, Ticket(4, 0, 1)]


def test_a_worker_sits_on_one_seat() -> None:
    seats = Seats()
    first, second = seats.take(3, 0, 1), seats.take(3, 1, 2)
    assert [seats.admit(first, 5), seats.admit(second, 5)] == [None, Ticket(3, 1, 2)]


def test_who_is_gone_loses_its_seat_and_leaves_its_line_to_be_hung_up() -> None:
    seats = Seats()
    near, far = seats.take(3, 0, 1), seats.take(4, 0, 2)
    seats.admit(near, 5)
    assert [seats.clear(3), seats.clear(4), seats.clear(3)] == [5, None, None]
    assert [seats.admit(near, 5), seats.admit(far, 6)] == [None, None]
