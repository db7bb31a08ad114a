"""Whom the options of a command name: an agent by its id, or by its key as listings show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fmos.types import Principal
    from fmos_cli.session import Session


def principal(tenant: str, application: str, agent: str, session: str = "") -> Principal:
    """Return the principal that the options name; an agent may be given as APPLICATION:AGENT.

    Raises:
        ArgumentError: if an id cannot be one, or two applications are named.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - keeps --help fast

    from fmos.errors import ArgumentError  # noqa: PLC0415
    from fmos.serving.validation import describe_validation  # noqa: PLC0415
    from fmos.types import Principal, checked_id  # noqa: PLC0415

    of, _, own = agent.rpartition(":")
    checked_id(own, "an agent id")
    if of and application not in ("", of):
        raise ArgumentError(
            f"{agent!r} is an agent of the application {of!r}, not of {application!r}",
            hint="leave --application out",
        )
    try:
        return Principal(tenant=tenant, application=of or application, agent=own, session=session)
    except ValidationError as error:
        raise ArgumentError(
            describe_validation(error),
            hint="use letters, digits and ._@+- only, starting with a letter or digit",
        ) from error


def only_agent(session: Session) -> str:
    """Return the agent of a home that has a contract of one only.

    Raises:
        ArgumentError: if it has none, or several, naming them.
    """
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    folder = session.home / "contracts"
    names = sorted(path.stem for path in folder.glob("*.y*ml"))
    if len(names) == 1:
        return names[0]
    there = f"there are {', '.join(names[:8])}" if names else f"{str(folder)!r} has no contract"
    raise ArgumentError("no agent is named", hint=f"name one with --agent: {there}")
