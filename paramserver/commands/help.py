"""How ``--help`` looks: options in groups, what each is by default, examples at the end.

Rule 1: 80 columns are enough for it, and it needs no colours and no boxes.
Rule 2: it imports the parser alone, so that it is there at once.
"""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperCommand

HELP_SETTINGS: Final[dict[str, Any]] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


class HelpfulCommand(TyperCommand):
    """Lists its arguments and options by group: their ``rich_help_panel``, or 'Options'."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group, in the order in which options name them."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            vars(param)["show_envvar"] = False  # the epilog tells the rule
            record = param.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if param.param_type_name == "argument" else "Options"
                name = getattr(param, "rich_help_panel", None) or usual
                groups.setdefault(name, []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)


def examples(lines: str, after: str = "") -> str:
    """Return an epilog of examples that are printed as they are typed here.

    Parameters
    ----------
    lines : str
        Commands, a line each.
    after : str, optional
        A paragraph below them.

    Notes
    -----
    A line of ``\\b`` keeps the parser from filling the paragraph below it.
    """
    shown = "\n".join(f"  {line}" for line in lines.strip().splitlines())
    text = f"Examples:\n\n\b\n{shown}"
    return f"{text}\n\n{after.strip()}" if after else text
