"""What can be set, and what is refused."""

from __future__ import annotations

import pytest
import typer

from paramserver.commands.setting import abouts
from paramserver.commands.settings import TrainSettings, check_sources, kinds
from paramserver.config import write_settings
from paramserver.errors import ConfigError
from paramserver.train import add_train


def test_every_setting_is_an_option_with_the_same_default_and_words() -> None:
    app = typer.Typer(add_completion=False)
    add_train(app)
    options = {option.name: vars(option) for option in typer.main.get_command(app).params}
    assert set(options) - set(kinds()) == {"config", "resume"}
    for name, about in abouts(TrainSettings):
        option = options[name]
        expected = (getattr(TrainSettings, name), about.words, about.group.title)
        assert (option["default"], option["help"], option["rich_help_panel"]) == expected, name
    assert {name for name, _ in abouts(TrainSettings)} == set(kinds()) - {"mode"}


def test_kinds_are_plain_types() -> None:
    assert set(kinds().values()) == {str, int, float, bool}
    assert kinds()["workers"] is int


@pytest.mark.parametrize("mode", ["avg", "async"])
def test_what_is_kept_can_be_written_and_belongs_to_the_mode(mode: str) -> None:
    kept = TrainSettings(mode=mode, out="somewhere", json=True).to_keep()
    assert ("rounds" in kept) == (mode == "avg")
    assert ("epochs" in kept) == (mode == "async")
    assert {"out", "no_out", "json", "quiet", "dashboard"}.isdisjoint(kept)
    assert "seed = 0" in write_settings(kept)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mode": "both"}, "--mode is 'avg' or 'async', not 'both'"),
        ({"l2": -1.0}, "--l2 must be 0 or more, not -1"),
        ({"seed": -1}, "--seed must be 0 or more, not -1"),
        ({"l2": float("nan")}, "--l2 must be 0 or more, not nan"),
        ({"time_limit": -1.0}, "--time-limit must be above 0, not -1"),
        ({"partitioning": "random"}, "--partitioning is shuffled or contiguous or stratified"),
        ({"class_weight": "fair"}, "--class-weight is none or balanced, not 'fair'"),
        ({"checkpoint_every": 0.0}, "--checkpoint-every must be above 0, not 0"),
        ({"hidden": "128,"}, "--hidden is the units of each hidden layer"),
        ({"hidden": "0"}, "--hidden is the units of each hidden layer"),
        ({"dtype": "float16"}, "--dtype is float32 or float64, not 'float16'"),
        ({"outer_lr": 0.5}, "--outer-lr goes with --outer momentum or nesterov"),
        ({"workers": 0}, "--workers must be 1 or more, not 0"),
        ({"staleness_bound": "-1"}, "--staleness-bound is a number of steps or 'none', not '-1'"),
        ({"address": "tcp://*:1"}, "--keys is missing"),
        ({"keys": "k"}, "--address is missing"),
        ({"address": "tcp://*:1", "keys": "k"}, "--workers is missing"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object], words: str) -> None:
    values: dict[str, object] = {"mode": "avg", **wrong}
    with pytest.raises(ConfigError) as caught:
        TrainSettings(**values)  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_the_bound_is_a_number_or_none() -> None:
    bounds = [TrainSettings(mode="async", staleness_bound=b).bound for b in ("none", "None", "7")]
    assert bounds == [None, None, 7]
    assert TrainSettings(mode="avg", hidden="256, 64").units == (256, 64)


def test_settings_of_the_other_mode_are_refused_wherever_they_come_from() -> None:
    for source, name in (
        ("command line", "--epochs"), ("environment", "PARAMSERVER_EPOCHS"), ("file", "--epochs")
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"^{name} goes with --mode async"):
            check_sources("avg", {"epochs": source}, resumes=False)
    check_sources("avg", {"rounds": "command line"}, resumes=False)


def test_a_resumed_run_keeps_what_makes_its_result() -> None:
    check_sources("avg", {"seed": "file", "workers": "command line"}, resumes=True)
    with pytest.raises(ConfigError, match="--seed cannot change while a run is resumed"):
        check_sources("avg", {"seed": "command line"}, resumes=True)
