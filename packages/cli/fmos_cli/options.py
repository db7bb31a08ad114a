"""Checks of options that typer has no word for; what is wrong in them is wrong usage (2)."""

from __future__ import annotations

from collections.abc import Iterable

import typer


def choice(value: str, known: Iterable[str], option: str) -> str:
    """Return a value that is one of those known.

    Raises:
        BadParameter: naming them, if it is none.
    """
    names = list(known)
    if value not in names:
        two = f"is neither {' nor '.join(names)}"
        said = two if len(names) == 2 else f"is none of {', '.join(names)}"
        raise typer.BadParameter(f"{value!r} {said}", param_hint=option)
    return value


def refuse_unused(context: typer.Context, why: str, *names: str) -> None:
    """Refuse options that were given and would be ignored.

    Args:
        context: Of the command.
        why: What is missing or stands against them, such as "needs --plot".
        names: The parameters' names.

    Raises:
        BadParameter: naming the first one that was given.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            option = max(parameter.opts, key=len)
            raise typer.BadParameter(f"{option} {why}", ctx=context)
