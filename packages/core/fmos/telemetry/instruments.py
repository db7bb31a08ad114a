"""The metrics: their names, units and, where the conventions give them, their buckets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.metrics import Counter, Histogram, MeterProvider

from fmos.telemetry import names

_TOKENS = [4.0**power for power in range(14)]
_SECONDS = [0.01 * 2**power for power in range(14)]
_MCP_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120]
_SHORT = [0.00001 * 2**power for power in range(15)]


#: More measurements do not wait: whoever makes one then adds up a few older ones.
_MOST = 8192
_A_FEW = 4
_AT_ONCE = 64

_Labels = Mapping[str, Any]


class Waiting:
    """Measurements that wait to be added up where no call waits for it. Thread-safe."""

    def __init__(self) -> None:
        self._made: deque[tuple[Callable[[Any, _Labels], None], float, _Labels]] = deque()

    def put(self, tell: Callable[[Any, _Labels], None], amount: float, labels: _Labels) -> None:
        """Keep a measurement for later."""
        self._made.append((tell, amount, labels))
        if len(self._made) > _MOST:
            self.add_up(_A_FEW)

    def add_up(self, count: int) -> bool:
        """Add up so many, oldest first, and return whether some are left."""
        for _ in range(count):
            try:
                tell, amount, labels = self._made.popleft()
            except IndexError:
                return False
            tell(amount, labels)
        return bool(self._made)

    def before_reading(self, options: object) -> tuple[()]:
        """Add up all, as what is asked first when metrics are read; it has no value of its own."""
        while self.add_up(_AT_ONCE):
            pass
        return ()


class _Later:
    """An instrument whose measurements are added up later."""

    def __init__(self, tell: Callable[[Any, _Labels], None], waiting: Waiting) -> None:
        self._tell = tell
        self._waiting = waiting

    def add(self, amount: float, labels: _Labels) -> None:
        """Count."""
        self._waiting.put(self._tell, amount, labels)

    record = add


class Instruments:
    """The metrics of one process; those of our own providers are added up later."""

    def __init__(self, meters: MeterProvider, waiting: Waiting | None = None) -> None:
        meter = meters.get_meter("fmos")

        def histogram(name: str, unit: str, about: str, buckets: list[float]) -> Histogram | _Later:
            made = meter.create_histogram(
                name, unit, about, explicit_bucket_boundaries_advisory=buckets
            )
            return made if waiting is None else _Later(made.record, waiting)

        def counter(name: str, unit: str, about: str) -> Counter | _Later:
            made = meter.create_counter(name, unit, about)
            return made if waiting is None else _Later(made.add, waiting)

        if waiting is not None:
            meter.create_observable_gauge("fmos.telemetry.waiting", [waiting.before_reading])
        self.tokens = histogram(
            names.CLIENT_TOKENS, "{token}", "Tokens that model calls used.", _TOKENS
        )
        self.models = histogram(names.CLIENT_DURATION, "s", "How long model calls took.", _SECONDS)
        self.tools = histogram(names.TOOL_DURATION, "s", "How long tools took.", _SECONDS)
        self.served = histogram(
            names.MCP_SERVER_DURATION, "s", "How long served calls took.", _MCP_SECONDS
        )
        self.requested = histogram(
            names.MCP_CLIENT_DURATION, "s", "How long calls of a server took.", _MCP_SECONDS
        )
        self.overhead = histogram(
            names.OVERHEAD, "s", "Time that a layer of FMOS added to a call.", _SHORT
        )
        self.operations = counter(names.OPERATIONS, "{operation}", "Operations, as decided.")
        self.spent = counter(names.SPENT, "{unit}", "What was spent, by resource.")
        self.refused = counter(names.REFUSED, "{request}", "Requests that no account had left.")
        self.fast = counter(names.TRAP_FAST, "{operation}", "Operations classed locally.")
        self.slow = counter(names.TRAP_SLOW, "{operation}", "Operations that trapped.")
