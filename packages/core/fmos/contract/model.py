"""The Agent Contract, `agentos/v0.2`: what an agent declares that it is and may do.

Attribute names are those of the document. `role`, `budgets`, `modelPolicy.prefer` and, in
`security`, `deny`, `paths` and `recipients` are additions of FMOS; a document without them is
complete. Fields named `also_...` are further scopes that layers add: what is asked must be within
each of them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from fmos.canonical import content_digest
from fmos.contract.globs import covers_each, in_system_area, is_glob, matches_name
from fmos.contract.versions import parse_name, parse_wanted
from fmos.errors import ArgumentError
from fmos.ledger.model import MAX_AMOUNT, RESOURCES
from fmos.types import IDENTIFIER, Record

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgG]?)")
_FACTOR = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
#: The default scope of paths, and the names of the ledger's windows.
EVERYWHERE = ("/**",)
WINDOWS = ("per_minute", "per_hour", "per_day", "per_month")

OPTIONAL_ROLE = r"^([A-Za-z0-9][A-Za-z0-9._@+-]{0,127})?$"
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

_TEXT_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 256}
_TEXTS_SCHEMA = {"anyOf": [_TEXT_SCHEMA, {"type": "array", "items": _TEXT_SCHEMA}]}

Amount = Annotated[
    int,
    BeforeValidator(parse_amount),
    Field(ge=0, le=MAX_AMOUNT),
    WithJsonSchema(_AMOUNT_SCHEMA),
]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_as_list), WithJsonSchema(_TEXTS_SCHEMA)]
Scopes = tuple[Names, ...]
Quantity = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(min_length=1),
    WithJsonSchema({"type": ["string", "number"], "minLength": 1}),
]
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


def _class_schema(schema: dict[str, Any]) -> None:
    """Add the other spellings of the class to its JSON schema."""
    fields = schema["properties"]
    fields["latency_class"] = {"enum": ["HRT", "SRT", "DT"]}
    fields |= {name: {"type": "number", "minimum": 0} for name in _SLO_FIELDS}
    mapping = {name: schema.pop(name) for name in ("type", "properties", "additionalProperties")}
    schema["anyOf"] = [{"enum": ["HRT", "SRT", "DT"]}, mapping]


def latency_class_schema(schema: dict[str, Any]) -> None:
    """Add `latency_class`, the other spelling of `class`, to the JSON schema of a document."""
    schema["properties"]["latency_class"] = {"enum": ["HRT", "SRT", "DT"]}


class ServiceClass(Record):
    """The latency class, and the objectives that go with it."""

    model_config = ConfigDict(json_schema_extra=_class_schema)

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
    prefer: Names = Field(default=(), description="the order to try them in; allows nothing")
    max_context_tokens: Amount | None = None
    also_allow: Scopes = Field(default=(), description="a model must be on each of these lists too")

    def lists(self) -> Scopes:
        """Return lists of names, globs and version ranges; a model must be on each of them."""
        return (self.allow, *self.also_allow) if self.allow else self.also_allow

    def allows(self, model: str) -> bool:
        """Return whether a model may be asked."""
        return on_each_list(self.lists(), model)

    def candidates(self) -> tuple[str, ...] | None:
        """Return what may be asked, preferred names first; null if any model may.

        A glob or range gives way to the names of a list without any; where there is no such list
        it stays, and each model that it stands for must still be `allows`-ed.
        """
        lists = self.lists()
        if not lists:
            return None
        closed = [names for names in lists if not any(is_open(name) for name in names)]
        source = closed[0] if closed else lists[0]
        fit = [name for name in source if is_open(name) or self.allows(name)]
        first = [name for name in self.prefer if name in fit]
        return tuple(dict.fromkeys([*first, *fit]))


def is_open(name: str) -> bool:
    """Return whether the name of a model stands for several: a glob or a range of versions."""
    return is_glob(name) or ".." in name


def on_each_list(lists: Iterable[Iterable[str]], model: str) -> bool:
    """Return whether a model is on every list, by its name, a glob, or a range of versions."""
    return all(any(_names_model(name, model) for name in names) for names in lists)


def _names_model(name: str, model: str) -> bool:
    if ".." not in name:
        return matches_name([name], model)
    try:
        return name == model or parse_wanted(name).admits(parse_name(model))
    except ArgumentError:  # not a range: it names nothing
        return False


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

    read: Names = EVERYWHERE
    write: Names = EVERYWHERE
    also_read: Scopes = Field(default=(), description="a path must be in each of these too")
    also_write: Scopes = Field(default=(), description="a path must be in each of these too")


class Security(Record):
    """What needs a person's consent, what is refused, and the scope of paths and recipients."""

    consent_for: Names = ()
    sync_for: Names = Field(default=(), description="whose intent is on the disk before the effect")
    deny: Names = Field(default=(), description="capabilities that are refused even if granted")
    paths: Paths = Paths()
    recipients: Names | None = Field(default=None, description="globs; null: not limited")
    also_recipients: Scopes = Field(default=(), description="a recipient must match each of these")

    def read_scopes(self) -> Scopes:
        """Return lists of globs; a path is in the scope for reading if each list covers it."""
        return (self.paths.read, *self.paths.also_read)

    def write_scopes(self) -> Scopes:
        """Return lists of globs; a path is in the scope for writing if each list covers it."""
        return (self.paths.write, *self.paths.also_write)

    def recipient_scopes(self) -> Scopes:
        """Return lists of globs; a recipient is in scope if it matches one glob of each list."""
        own = () if self.recipients is None else (self.recipients,)
        return (*own, *self.also_recipients)

    def may_read(self, path: str) -> bool:
        """Return whether a normalised path is in the scope for reading."""
        return not in_system_area(path) and covers_each(self.read_scopes(), path)

    def may_write(self, path: str) -> bool:
        """Return whether a normalised path is in the scope for writing."""
        return not in_system_area(path) and covers_each(self.write_scopes(), path)

    def may_send_to(self, recipient: str) -> bool:
        """Return whether a recipient is in scope."""
        return all(matches_name(scope, recipient) for scope in self.recipient_scopes())


class Observability(Record):
    """What is traced."""

    tracing: str = ""
    log_fields: Names = ()
    record: bool = Field(default=True, description="false: no recording for `fmos replay`")


def spell_class(value: Any) -> Any:
    """Accept `latency_class: SRT` in the place of `class: { latency: SRT }`."""
    if not isinstance(value, dict) or "latency_class" not in value or "class" in value:
        return value
    fields = dict(value)
    fields["class"] = {"latency": fields.pop("latency_class")}
    return fields


class Limits(Record):
    """Amounts of the ledger's resources; null is not limited."""

    tokens: Amount | None = None
    currency: Amount | None = Field(default=None, description="in micro-units")
    tool_calls: Amount | None = None
    verifier_runs: Amount | None = None
    memory_writes: Amount | None = None
    wall_seconds: Amount | None = None
    risk: Amount | None = None

    def limits(self) -> dict[str, int]:
        """Return the resources that are limited, with their limits."""
        amounts = {name: getattr(self, name) for name in RESOURCES}
        return {name: amount for name, amount in amounts.items() if amount is not None}


class AccountLimits(Limits):
    """What one account may use in all, and in any minute, hour, day and month."""

    per_minute: Limits = Limits()
    per_hour: Limits = Limits()
    per_day: Limits = Limits()
    per_month: Limits = Limits()

    def windows(self) -> dict[str, dict[str, int]]:
        """Return the limited windows (`per_minute` and so on) with their limits."""
        found = {name: getattr(self, name).limits() for name in WINDOWS}
        return {name: limits for name, limits in found.items() if limits}


class Budgets(AccountLimits):
    """What one session may use; `agent`: all its sessions together; windows bind the agent."""

    agent: Limits = Limits()


class ContractBody(Record):
    """What a contract and the embedded contract of a workflow's step have in common."""

    model_config = ConfigDict(json_schema_extra=latency_class_schema)

    class_: ServiceClass = Field(default=ServiceClass(), alias="class")
    role: str = Field(default="", pattern=OPTIONAL_ROLE, description="whose policies bind it too")
    capabilities: Names = ()
    compute: Compute = Compute()
    modelPolicy: ModelPolicy = ModelPolicy()
    memory: Memory = Memory()
    security: Security = Security()
    observability: Observability = Observability()
    budgets: Budgets = Budgets()

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, value: Any) -> Any:
        return spell_class(value)


class AgentContract(ContractBody):
    """One agent's declaration. Immutable; `digest` names exactly this content."""

    apiVersion: Literal["agentos/v0.2"]
    kind: Literal["AgentContract"]
    name: str = Field(pattern=IDENTIFIER)

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the contract's canonical JSON, defaults included."""
        return content_digest(self.model_dump(mode="json", by_alias=True))

    def grants(self, *names: str) -> bool:
        """Return whether one of the names (tool, capability) is allowed, and none is denied."""
        denied = any(name in self.security.deny for name in names)
        return not denied and any(name in self.capabilities for name in names)

    def needs_consent(self, *labels: str) -> bool:
        """Return whether one of the labels (tool, capability, derived) needs consent."""
        return any(label in self.security.consent_for for label in labels)

    def denies(self, *labels: str) -> bool:
        """Return whether one of the labels (tool, capability, kind) is refused."""
        return any(label in self.security.deny for label in labels)

    def is_synced(self, *labels: str) -> bool:
        """Return whether the intent of such an operation must be on the disk before it runs."""
        return any(label in self.security.sync_for for label in labels)
