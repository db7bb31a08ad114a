"""The policy modules of a home: each may object to a call, and none can allow one.

A module that is missing, broken, too slow, or returns what it must not, denies every call: a home
that asked for a rule never runs without it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

from fmos.drivers import POLICIES, CallFacts, Drivers, Objection, PolicyModule
from fmos.errors import DriverError, FmosError
from fmos.settings import DriverSettings
from fmos.types import Operation, Reason

_MAX_MESSAGE = 500


class Objections(NamedTuple):
    """What modules have against a call."""

    denials: tuple[Reason, ...] = ()
    asks: tuple[Reason, ...] = ()


NOTHING = Objections()


class PolicyModules:
    """The policy modules that a home's settings name. Thread-safe; made at the first call."""

    def __init__(self, settings: DriverSettings, drivers: Drivers | None = None) -> None:
        self._settings = settings
        self._drivers = drivers or Drivers(POLICIES, settings)
        self._made: dict[str, PolicyModule] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """Return whether the home names any."""
        return bool(self._settings.policies)

    def judge(self, operation: Operation, facts: CallFacts) -> Objections:
        """Return what all modules have against a call."""
        denials: list[Reason] = []
        asks: list[Reason] = []
        for name in self._settings.policies:
            try:
                found = self._of(name, operation, facts)
            except FmosError as error:
                message = f"the policy module {name!r} could not judge the call, so it is denied"
                denials.append(_reason(name, "failed", f"{message} ({error})"))
                continue
            for each in found:
                into = denials if each.decision == "deny" else asks
                into.append(_reason(name, each.code, each.message))
        return Objections(tuple(denials), tuple(asks))

    def _of(self, name: str, operation: Operation, facts: CallFacts) -> Sequence[Objection]:
        module = self._module(name)
        found = self._drivers.run(name, lambda: tuple(module.judge(operation, facts)))
        for each in found:
            if not isinstance(each, Objection) or each.decision not in ("deny", "ask"):
                raise DriverError(f"the policy module {name!r} gave something else than objections")
        return found

    def _module(self, name: str) -> PolicyModule:
        with self._lock:
            made = self._made.get(name)
            if made is None:
                options = dict(self._settings.options.get(name, {}))
                made = self._drivers.make(name, options)
                if not isinstance(made, PolicyModule):
                    raise DriverError(f"the policy module {name!r} has not both of name and judge")
                self._made[name] = made
            return made


def _reason(name: str, code: str, message: str) -> Reason:
    text = message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 3] + "..."
    return Reason(code=f"policy.{name}.{code}", message=text, rule=f"module:{name}")
