"""What is missing for the full tests is named, with its remedy."""

from tests.prerequisites import PREREQUISITES, Prerequisite, missing


def test_what_is_missing_is_told_with_its_remedy_and_the_rest_is_not() -> None:
    gone = Prerequisite("the command `x`", "testing y", "apt-get install z", lambda: False)
    there = Prerequisite("air", "breathing", "open a window", lambda: True)
    assert missing((gone, there)) == ["missing: the command `x` (for testing y); apt-get install z"]


def test_every_check_can_be_asked_on_any_machine() -> None:
    assert len(missing()) <= len(PREREQUISITES)
