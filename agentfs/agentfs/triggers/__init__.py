"""Triggers: on a change below a path run a command or call a function, once per journal row.

`store` keeps the tables, `definitions` is `fs.triggers`, `matching` says which rows count,
`runner` takes them one by one, `command` runs a process and `lock` keeps two runners apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentfs.triggers.definitions import Triggers
from agentfs.triggers.store import OnCrash, RunState, Trigger, TriggerRun

if TYPE_CHECKING:
    from agentfs.triggers.runner import Runner

__all__ = ["OnCrash", "RunState", "Runner", "Trigger", "TriggerRun", "Triggers"]


def __getattr__(name: str) -> object:
    """Import `Runner` when it is first asked for, because starting processes is slow to load."""
    if name == "Runner":
        from agentfs.triggers.runner import Runner  # noqa: PLC0415 - start-up time

        return Runner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
