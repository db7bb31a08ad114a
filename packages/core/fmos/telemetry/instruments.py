"""The metrics: their names, units and, where the conventions give them, their buckets."""

from __future__ import annotations

from opentelemetry.metrics import MeterProvider

from fmos.telemetry import names

_TOKENS = [4.0**power for power in range(14)]
_SECONDS = [0.01 * 2**power for power in range(14)]
_MCP_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120]
_SHORT = [0.00001 * 2**power for power in range(15)]


class Instruments:
    """The metrics of one process."""

    def __init__(self, meters: MeterProvider) -> None:
        meter = meters.get_meter("fmos")

        def histogram(name: str, unit: str, about: str, buckets: list[float]):
            return meter.create_histogram(
                name, unit, about, explicit_bucket_boundaries_advisory=buckets
            )

        def counter(name: str, unit: str, about: str):
            return meter.create_counter(name, unit, about)

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
