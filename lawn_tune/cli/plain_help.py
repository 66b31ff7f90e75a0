"""Help that shows names and allowed values; not Python's types, nor braces around what is required."""

from __future__ import annotations

from typing import Any

BARE = ("str", "Path", "list[str]")
"""Types that say nothing to a user."""


def plain_help(command: Any) -> Any:
    """Returns a command, or a group with all of its commands, whose help names arguments as its usage line does."""
    for below in getattr(command, "commands", {}).values():
        plain_help(below)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            _plain_argument(parameter)
        else:
            _plain_option(parameter)
    return command


def _plain_argument(argument: Any) -> None:
    name = f"{argument.metavar or argument.name.upper()}{'...' if argument.nargs != 1 else ''}"
    argument.display_type_rich = lambda ctx: None
    argument.get_usage_pieces = lambda ctx: [name if argument.required else f"[{name}]"]


def _plain_option(option: Any) -> None:
    shown = option.display_type_rich

    def display(ctx: Any) -> str | None:
        text = shown(ctx=ctx)
        bare = text.removeprefix("<").removesuffix(">") if text else None
        return None if bare in BARE else bare

    option.display_type_rich = display
    option._get_number_range_help_str = lambda: _range(option)


def _range(option: Any) -> str | None:
    """Returns the numbers that an option takes, None where it takes any."""
    low, high = getattr(option, "min", None), getattr(option, "max", None)
    if low is None:
        return None if high is None else f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"
