"""The Agent Contract, `agentos/v0.2`: what an agent declares that it is and may do.

Attribute names are those of the document. `security.paths`, `security.recipients` and `budgets`
are additions of FMOS; a document without them is complete.
"""

from __future__ import annotations

import functools
import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from fmos.canonical import content_digest
from fmos.contract.globs import covers, in_system_area, matches_name
from fmos.ledger.model import MAX_AMOUNT
from fmos.types import IDENTIFIER, Record

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)")
_FACTOR = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_SLO_FIELDS = ("onset_ms", "turn_ms", "jitter_p95_pct", "deadline_ms", "jitter_ms")


def parse_amount(value: object) -> object:
    """Return a number for `50k`, `1.5M` or `2G` (decimal factors); leave the rest to the type."""
    found = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return value
    whole, _, fraction = found[1].partition(".")
    factor = _FACTOR[found[2].lower()]
    scaled = int(whole + fraction) * factor
    divisor = 10 ** len(fraction)
    return scaled // divisor if scaled % divisor == 0 else value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_text(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number else value


_AMOUNT_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": MAX_AMOUNT},
        {"type": "string", "pattern": f"^{_AMOUNT.pattern}$"},
    ]
}

Amount = Annotated[
    int,
    BeforeValidator(parse_amount),
    Field(ge=0, le=MAX_AMOUNT),
    WithJsonSchema(_AMOUNT_SCHEMA),
]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_as_list)]
Quantity = Annotated[str, BeforeValidator(_as_text), Field(min_length=1)]
Milliseconds = Annotated[float, Field(gt=0)]


class Latency(StrEnum):
    """Hard real-time, soft real-time, or delay-tolerant."""

    HRT = "HRT"
    SRT = "SRT"
    DT = "DT"


class Slo(Record):
    """How fast the agent must answer: onset and turn for SRT, a deadline for HRT."""

    onset_ms: Milliseconds | None = None
    turn_ms: Milliseconds | None = None
    jitter_p95_pct: Annotated[float, Field(ge=0)] | None = None
    deadline_ms: Milliseconds | None = None
    jitter_ms: Annotated[float, Field(ge=0)] | None = None


class ServiceClass(Record):
    """The latency class, and the objectives that go with it."""

    latency: Latency = Latency.DT
    slo: Slo = Slo()

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, value: object) -> object:
        """Accept `class: SRT`, `latency_class` for `latency`, and objectives beside the class."""
        if isinstance(value, str):
            return {"latency": value}
        if not isinstance(value, dict):
            return value
        fields = dict(value)
        if "latency" not in fields and "latency_class" in fields:
            fields["latency"] = fields.pop("latency_class")
        if isinstance(fields.get("slo", {}), dict):
            beside = {name: fields.pop(name) for name in _SLO_FIELDS if name in fields}
            fields["slo"] = {**beside, **fields.get("slo", {})}
        return fields

    @model_validator(mode="after")
    def _hard_has_deadline(self) -> ServiceClass:
        if self.latency is Latency.HRT and self.slo.deadline_ms is None:
            raise ValueError("latency class HRT needs `slo: { deadline_ms: ... }`")
        return self


class Compute(Record):
    """The machine's share that the agent asks for."""

    cpu: Quantity | None = None
    mem: Quantity | None = None
    gpu: Quantity | None = None


class ModelPolicy(Record):
    """Which models may be asked, and how large a prompt may be; an empty list allows any."""

    allow: Names = ()
    max_context_tokens: Amount | None = None


class Rag(Record):
    """How memory is recalled into a prompt."""

    top_k: Annotated[int, Field(ge=1)] = 8
    require_grounding: bool = False


class Memory(Record):
    """Where the agent's memories go and how long they stay."""

    namespace: Name = "default"
    retention_days: Annotated[int, Field(ge=0)] | None = None
    rag: Rag = Rag()


class Paths(Record):
    """Which paths are in scope; without the field everything is, an empty list means nothing."""

    read: Names = ("/**",)
    write: Names = ("/**",)


class Security(Record):
    """What needs a person's consent, and the scope of paths and recipients."""

    consent_for: Names = ()
    paths: Paths = Paths()
    recipients: Names | None = Field(default=None, description="globs; null: not limited")

    def may_read(self, path: str) -> bool:
        """Return whether a normalised path is in the scope for reading."""
        return not in_system_area(path) and covers(self.paths.read, path)

    def may_write(self, path: str) -> bool:
        """Return whether a normalised path is in the scope for writing."""
        return not in_system_area(path) and covers(self.paths.write, path)

    def may_send_to(self, recipient: str) -> bool:
        """Return whether a recipient is in scope."""
        return self.recipients is None or matches_name(self.recipients, recipient)


class Observability(Record):
    """What is traced."""

    tracing: str = ""
    log_fields: Names = ()


class Budgets(Record):
    """What one session may use of each of the ledger's resources; null is not limited."""

    tokens: Amount | None = None
    currency: Amount | None = Field(default=None, description="in micro-units")
    tool_calls: Amount | None = None
    verifier_runs: Amount | None = None
    memory_writes: Amount | None = None
    wall_seconds: Amount | None = None
    risk: Amount | None = None

    def limits(self) -> dict[str, int]:
        """Return the resources that are limited, with their limits."""
        return {name: amount for name, amount in self if amount is not None}


class AgentContract(Record):
    """One agent's declaration. Immutable; `digest` names exactly this content."""

    apiVersion: Literal["agentos/v0.2"]
    kind: Literal["AgentContract"]
    name: str = Field(pattern=IDENTIFIER)
    class_: ServiceClass = Field(default=ServiceClass(), alias="class")
    capabilities: Names = ()
    compute: Compute = Compute()
    modelPolicy: ModelPolicy = ModelPolicy()
    memory: Memory = Memory()
    security: Security = Security()
    observability: Observability = Observability()
    budgets: Budgets = Budgets()

    @model_validator(mode="before")
    @classmethod
    def _latency_class(cls, value: Any) -> Any:
        """Accept `latency_class: SRT` in the place of `class: { latency: SRT }`."""
        if not isinstance(value, dict) or "latency_class" not in value or "class" in value:
            return value
        fields = dict(value)
        fields["class"] = {"latency": fields.pop("latency_class")}
        return fields

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the contract's canonical JSON, defaults included."""
        return content_digest(self.model_dump(mode="json", by_alias=True))

    def grants(self, *names: str) -> bool:
        """Return whether one of the names (tool, capability) is in the allow-list."""
        return any(name in self.capabilities for name in names)

    def needs_consent(self, *labels: str) -> bool:
        """Return whether one of the labels (tool, capability, derived) needs consent."""
        return any(label in self.security.consent_for for label in labels)
