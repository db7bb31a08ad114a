"""Lets the home's policy modules see a call as the gate's rules see it."""

from __future__ import annotations

from collections.abc import Iterator

from fmos.drivers import CallFacts
from fmos.plugins.objections import NOTHING, Objections, PolicyModules
from fmos.runtime.kernel import Kernel
from fmos_trust.facts import Facts
from fmos_trust.findings import Finding


class Modules:
    """The policy modules of one gate. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._clock = kernel.clock
        self._modules = PolicyModules(kernel.settings.drivers)

    def __bool__(self) -> bool:
        """Return whether the home names any: then every tool call must come before the gate."""
        return bool(self._modules)

    def judge(self, facts: Facts) -> Iterator[Finding]:
        """Find what the modules have against a call; they cannot allow one."""
        objections = self._objections(facts)
        for reason in objections.denials:
            yield Finding("deny", reason.model_copy(update={"layer": "execution"}))
        for reason in objections.asks:
            yield Finding("ask", reason.model_copy(update={"layer": "execution"}))

    def _objections(self, facts: Facts) -> Objections:
        if not self._modules:
            return NOTHING
        seen = CallFacts(
            capability=facts.capability,
            effect=facts.effect,
            paths=tuple(facts.texts("path")),
            recipients=tuple(facts.texts("recipient")),
            labels=facts.labels,
            now_ns=self._clock.now_ns(),
        )
        return self._modules.judge(facts.operation, seen)
