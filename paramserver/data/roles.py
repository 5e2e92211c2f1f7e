"""Which columns of a file are no features: the label, the weight, and the key. Values only.

Rule 1: a column is named as its file names it: by its name in the header of a table (or its number,
        counted from 1), by the name of an array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from paramserver.errors import ConfigError


@dataclass(frozen=True)
class Roles:
    """What a user has named.

    Attributes
    ----------
    label : str or None
        By default the last column, or the array ``y``.
    weight : str or None
        How much each row counts; by default all rows count the same.
    key : str or None
        Rows of a key come to the same partition; by default there are none.
    """

    label: str | None = None
    weight: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        named = [name for name in (self.label, self.weight, self.key) if name is not None]
        if len(set(named)) < len(named):
            raise ConfigError(
                "The label, the weight and the key are columns of their own; the same name is "
                f"given twice: {', '.join(named)}.",
                field="weight",
                value=self.weight,
            )

    def given(self) -> dict[str, str]:
        """Return what was named, by role."""
        found = {"label": self.label, "weight": self.weight, "key": self.key}
        return {role: name for role, name in found.items() if name is not None}


NO_ROLES: Final = Roles()
