"""The policy document of a layer: what it demands (`must`) and what it suggests (`prefer`).

`must` only ever narrows what a contract asks for; `prefer` fills in what a contract leaves out.
"""

from __future__ import annotations

import functools
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from fmos.canonical import content_digest
from fmos.contract.model import AccountLimits, Amount, Budgets, Compute, Latency, Name, Names
from fmos.contract.requirements import quantity
from fmos.types import Record

LayerName = Literal["platform", "tenant", "role", "admin"]

#: Who may limit an account that agents share: one below it would take from the others.
_MAY_LIMIT: dict[str, tuple[str, ...]] = {
    "organisation": ("platform", "admin"),
    "tenant": ("platform", "tenant", "admin"),
    "application": ("platform", "tenant", "admin"),
}
_NAME = r"^([A-Za-z0-9][A-Za-z0-9._@+-]{0,127})?$"


def _as_classes(value: object) -> object:
    return [value] if isinstance(value, str) else value


_CLASS_SCHEMA = {"enum": [*Latency]}
_CLASSES_SCHEMA = {
    "anyOf": [_CLASS_SCHEMA, {"type": "array", "minItems": 1, "items": _CLASS_SCHEMA}]
}


class PathScopes(Record):
    """Path globs that a layer keeps every agent within; null does not limit."""

    read: Names | None = None
    write: Names | None = None


class PolicyBudgets(Budgets):
    """A layer's limits: of each session and agent, and of the accounts above."""

    application: AccountLimits = AccountLimits()
    tenant: AccountLimits = AccountLimits()
    organisation: AccountLimits = AccountLimits()


class Must(Record):
    """Constraints. Lists intersect, limits take the minimum, consent and denials unite."""

    contract: Literal["required"] | None = Field(
        default=None, description="refuse agents without one more than tool calls, too"
    )
    capabilities: Names | None = None
    deny: Names = ()
    models: Names | None = Field(default=None, description="names, globs and version ranges")
    max_context_tokens: Amount | None = None
    consent_for: Names = ()
    sync_for: Names = Field(default=(), description="whose intent is on the disk before the effect")
    paths: PathScopes = PathScopes()
    recipients: Names | None = None
    budgets: PolicyBudgets = PolicyBudgets()
    retention_days: Annotated[int, Field(ge=0)] | None = None
    require_grounding: bool = False
    compute: Compute = Compute()
    latency: Annotated[
        tuple[Latency, ...] | None, BeforeValidator(_as_classes), WithJsonSchema(_CLASSES_SCHEMA)
    ] = Field(default=None, min_length=1, description="the latency classes that may be asked for")
    tracing: str = Field(default="", description="the tracing that every agent has")
    log_fields: Names = Field(default=(), description="fields that every agent logs")
    never_log: Names = Field(default=(), description="fields that no agent logs")


class RagDefaults(Record):
    """How memory is recalled, where the contract does not say."""

    top_k: Annotated[int, Field(ge=1)] | None = None
    require_grounding: bool | None = None


class Prefer(Record):
    """Defaults for what a contract leaves out; they never go beyond a `must`."""

    models: Names = Field(default=(), description="the order in which models are tried")
    max_context_tokens: Amount | None = None
    namespace: Name | None = None
    retention_days: Annotated[int, Field(ge=0)] | None = None
    rag: RagDefaults = RagDefaults()
    budgets: Budgets = Budgets()
    tracing: str = ""
    log_fields: Names = ()


class Policy(Record):
    """One layer's document. Immutable; `digest` names exactly this content."""

    apiVersion: Literal["agentos/v0.2"]
    kind: Literal["Policy"]
    layer: LayerName
    name: str = Field(default="", pattern=_NAME, description="of the tenant or the role")
    must: Must = Must()
    prefer: Prefer = Prefer()

    @model_validator(mode="after")
    def _named_as_the_layer_needs(self) -> Policy:
        named = self.layer in ("tenant", "role")
        if named and not self.name:
            raise ValueError(
                f"a policy of the layer {self.layer!r} needs `name: ...` of the {self.layer}"
            )
        if not named and self.name:
            raise PydanticCustomError(
                "placed",
                f"no name: a policy of the layer {self.layer!r} holds for all",
                {"at": ["name"]},
            )
        return self

    @model_validator(mode="after")
    def _says_readable_amounts(self) -> Policy:
        for name, text in self.must.compute:
            if text is not None and quantity(name, text) is None:
                raise PydanticCustomError(
                    "placed",
                    "an amount that can be compared: cpu as 1 or 500m, mem as 2GiB, gpu as 1",
                    {"at": ["must", "compute", name]},
                )
        return self

    @model_validator(mode="after")
    def _limits_its_own(self) -> Policy:
        for account, layers in _MAY_LIMIT.items():
            limited = getattr(self.must.budgets, account) != AccountLimits()
            if limited and self.layer not in layers:
                raise PydanticCustomError(
                    "placed",
                    "such a limit only in a policy of the layer {layers}",
                    {"at": ["must", "budgets", account], "layers": " or ".join(layers)},
                )
        return self

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the policy's canonical JSON, defaults included."""
        return content_digest(self.model_dump(mode="json", by_alias=True))

    @property
    def label(self) -> str:
        """The layer in words, such as `tenant acme`."""
        return f"{self.layer} {self.name}".strip()

    def binds(self, tenant: str, roles: tuple[str, ...]) -> bool:
        """Return whether the policy holds for a tenant's agent that has the roles."""
        if self.layer == "tenant":
            return self.name == tenant
        return self.layer != "role" or self.name in roles
