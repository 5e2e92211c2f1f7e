"""Time to a target: two passes in a row, the best rate, the median of the seeds."""

from collections.abc import Iterator

from tests.benchmarks.to_target import Pass, Task, Trainer

SCORES = {
    0.1: [0.1, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9],
    1.0: [0.5, 0.8, 0.7, 0.9, 0.8, 0.9, 0.9],
    9.0: [0.0] * 7,
}
"""By the learning rate. Each pass costs a second."""


class Script:
    """Trains as `SCORES` says, and writes down who asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []

    def __call__(self, rate: float, seed: int) -> Iterator[Pass]:
        self.asked.append((rate, seed))
        for number, score in enumerate(SCORES[rate], start=1):
            yield Pass(float(number), 2.0 * number, score)


def measure(task: Task, train: Trainer) -> dict[str, float | int | str]:
    measured = task.measure(train, quick=False)
    assert float(measured.pop("memory")) > 0
    return measured


def test_the_time_is_that_of_the_second_pass_in_a_row_at_the_target() -> None:
    task = Task(target=0.8, rates=(1.0,), max_passes=7, n_seeds=3)
    assert measure(task, Script()) == {
        "time": 5.0,
        "CPU": 10.0,
        "passes": 5,
        "outcome": "3 seeds, rate 1",
    }


def test_the_rate_is_picked_on_a_seed_that_does_not_count() -> None:
    script = Script()
    task = Task(target=0.7, rates=(0.1, 1.0, 9.0), max_passes=7, n_seeds=2)
    measured = measure(task, script)
    assert script.asked == [(0.1, 0), (1.0, 0), (9.0, 0), (1.0, 1), (1.0, 2)]
    assert measured["time"] == 3.0


def test_who_has_not_reached_the_target_gets_no_time() -> None:
    task = Task(target=0.85, rates=(0.1, 1.0), max_passes=4, n_seeds=2)
    assert measure(task, Script()) == {
        "outcome": "0.85 not reached; best 0.9000 after 4.00 s; 2 seeds, rate 1"
    }


def test_the_median_is_of_all_seeds_those_that_have_not_reached_the_target_too() -> None:
    def lucky_with_one_seed(rate: float, seed: int) -> Iterator[Pass]:
        for number in range(1, 9):
            yield Pass(float(number), 1.0, 1.0 if seed < 2 or number > 4 else 0.0)

    measured = measure(Task(target=0.5, rates=(1.0,), max_passes=8, n_seeds=3), lucky_with_one_seed)
    assert measured["time"] == 6.0
    measured = measure(Task(target=0.5, rates=(1.0,), max_passes=5, n_seeds=3), lucky_with_one_seed)
    assert "time" not in measured


def test_a_quick_run_takes_two_passes_and_judges_nothing() -> None:
    script = Script()
    measured = Task(target=2.0, rates=(0.1, 1.0), max_passes=4).measure(script, quick=True)
    assert script.asked == [(0.1, 0)]
    assert {name: measured[name] for name in ("time", "CPU", "passes")} == {
        "time": 2.0,
        "CPU": 4.0,
        "passes": 2,
    }
