"""What a run was set to, and what repeats it, as a part of a page. Values in, HTML out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from paramserver.drawing.page import html, section, settings
from paramserver.drawing.panel import Reading
from paramserver.observe.events import RunStarted
from paramserver.observe.words import setting


def settings_section(
    started: RunStarted, config: Mapping[str, Any], command: str, kernel: str = ""
) -> str:
    """Return the settings of a run, with the command that repeats it.

    Parameters
    ----------
    started : RunStarted
    config : mapping
        As in ``config.toml``.
    command : str
        What repeats the run when it is typed, or (with "..." where something is left out) how it
        was called; empty where there is neither.
    kernel : str
        What the learner's loops were made by; empty where that is not known.
    """
    facts = {
        "examples": f"{started.n_examples:,}",
        "features": f"{started.n_features:,}",
        "weights": f"{started.n_parameters:,}",
        "host": started.host,
        "process of the master": str(started.pid),
    }
    if kernel:
        facts["kernel chosen"] = kernel
    pairs = [*facts.items(), *((name, setting(value)) for name, value in config.items())]
    body = f"<pre>{html(command)}</pre>\n{settings(pairs)}" if command else settings(pairs)
    about = ""
    if command:
        about = "So it was called:" if "..." in command else "This repeats the run:"
    return section("Configuration", about, body)


class SettingsPanel:
    """Shows what a run was set to; below all that moves.

    Parameters
    ----------
    started : RunStarted
    config : mapping
    command : str
    """

    name = "configuration"
    rank = 40

    def __init__(self, started: RunStarted, config: Mapping[str, Any], command: str) -> None:
        self._html = settings_section(started, config, command)
        self.has_ended = False

    def end(self) -> None:
        """Take in that the training is over."""
        self.has_ended = True

    def html(self) -> str:
        """Return the settings."""
        return self._html

    def readings(self) -> Iterable[Reading]:
        """Return nothing."""
        return ()
