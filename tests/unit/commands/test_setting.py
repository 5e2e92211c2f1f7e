"""A table of settings says all that is known of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from paramserver.commands.setting import (
    About,
    Group,
    Lasts,
    abouts,
    flag,
    kinds_of,
    refuse,
    setting,
)
from paramserver.errors import ConfigError

SPEED = Group("Speed", mode="fast")


@dataclass(frozen=True, kw_only=True)
class Table:
    name: str
    n_gears: int = setting(5, SPEED, "N", "How many gears.", lasts=Lasts.ONCE)
    oil: str | None = setting(None, SPEED, "", "Which oil.", choices=("thick", "thin"))


def test_what_is_declared_is_a_field_with_its_default() -> None:
    assert Table(name="a") == Table(name="a", n_gears=5, oil=None)
    assert (Table.n_gears, Table.oil) == (5, None)
    assert kinds_of(Table) == {"name": str, "n_gears": int, "oil": str}


def test_what_is_known_of_settings_comes_in_their_order_and_fields_beside_them_are_none() -> None:
    assert list(abouts(Table)) == [
        ("n_gears", About(SPEED, "N", "How many gears.", Lasts.ONCE)),
        ("oil", About(SPEED, "", "Which oil.", choices=("thick", "thin"))),
    ]


def test_a_refused_setting_is_called_as_it_was_written() -> None:
    with pytest.raises(ConfigError, match=r"^--n-gears is odd$") as caught:
        refuse("n_gears", 3, "is odd")
    assert (caught.value.field, caught.value.value) == ("n_gears", 3)
    with pytest.raises(ConfigError, match=r"^PARAMSERVER_N_GEARS is odd$"):
        refuse("n_gears", 3, "is odd", "environment")
    assert flag("n_gears") == "--n-gears"
