"""Settings in files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.config import nearest, read_settings, write_settings
from paramserver.errors import ConfigError

KINDS: dict[str, type] = {"epochs": int, "lr": float, "data": str, "json": bool, "local_steps": int}


def read(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return read_settings(path, KINDS)


def test_settings_are_read_by_their_names(tmp_path: Path) -> None:
    text = 'epochs = 3\nlr = 1\ndata = "iris"\njson = true\nlocal-steps = 2\n'
    assert read(tmp_path, text) == {
        "epochs": 3, "lr": 1, "data": "iris", "json": True, "local_steps": 2
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 3", "there is no setting 'epoch'. Did you mean 'epochs'?"),
        ("qqq = 3", "there is no setting 'qqq'. There are: data, epochs"),
        ("[avg]\nepochs = 3", "there is no setting 'avg'"),
        ("epochs = 2.5", "epochs must be a whole number, not 2.5"),
        ('epochs = "3"', "epochs must be a whole number, not '3'"),
        ("epochs = true", "epochs must be a whole number, not True"),
        ('lr = "fast"', "lr must be a number, not 'fast'"),
        ("json = 1", "json must be true or false, not 1"),
        ("data = [1]", "data must be a string, not [1]"),
        ("epochs: 3", "is no TOML file"),
        ("\0", "is no TOML file"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_file(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert str(tmp_path / "config.toml") in str(caught.value)


def test_what_is_no_setting_is_not_written() -> None:
    with pytest.raises(ConfigError, match=r"\[1\] cannot be written as a setting"):
        write_settings({"hidden": [1]})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file"):
        read_settings(tmp_path / "none.toml", KINDS)


values = {
    "epochs": st.integers(-(2**63), 2**63 - 1),
    "lr": st.floats(allow_nan=False),
    "data": st.text(st.characters(codec="utf-8")),
    "json": st.booleans(),
}


@given(settings=st.fixed_dictionaries({}, optional=values))
def test_what_is_written_reads_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.toml"
    path.write_text(write_settings(settings, ["a comment"]), encoding="utf-8", newline="")
    assert read_settings(path, KINDS) == settings


def test_what_is_not_set_is_a_comment() -> None:
    assert write_settings({"epochs": None}) == "# epochs is not set\n"


def test_a_name_that_is_near_to_nothing_is_answered_with_all() -> None:
    assert nearest("zzz", {"b", "a"}) == " There are: a, b."
