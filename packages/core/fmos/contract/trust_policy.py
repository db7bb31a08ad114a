"""The trust policy: rules about single tool calls that the trust gate judges by.

Owns what a document may say, and refuses what could not be compiled; what a rule means for a call
is the trust gate's matter (`fmos_trust.policy`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fmos.canonical import content_digest
from fmos.contract.model import Name, Names
from fmos.contract.positions import Loc
from fmos.contract.written import expression_problem, pattern_problem, schema_problem
from fmos.traps.manifest import Effect
from fmos.types import IDENTIFIER, Record

RuleEffect = Literal["deny", "ask", "allow", "redact", "rewrite"]
ValueType = Literal["path", "url", "email", "amount", "command", "sql", "text"]
StatementClass = Literal["select", "insert", "update", "delete", "ddl", "admin"]
SourceKind = Literal[
    "user", "system", "contract", "field", "text", "memory", "agent", "none"
]  # fmt: skip
DataClass = Literal["secrets", "pii"]

#: The fields that go with each type of value; `not` and `optional` go with all of them.
_FIELDS: dict[ValueType, tuple[str, ...]] = {
    "path": ("under",),
    "url": ("host", "scheme", "port"),
    "email": ("domain", "address"),
    "amount": ("max", "min", "above", "below", "currency"),
    "command": ("programs",),
    "sql": ("class",),
    "text": ("one_of", "pattern", "max_length"),
}
_OF_ALL = ("type", "negated", "optional")
_AMOUNT = re.compile(r"(-?\d+(?:\.\d+)?)(?: ?([A-Z]{3}))?")
_POINTER = re.compile(r"(/[^/]+)+")
#: What a rule may only do where it can take nothing back: in a project, and in a proposed version.
TIGHTENING: tuple[RuleEffect, ...] = ("deny", "ask", "redact", "rewrite")


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_text(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number else value


def _limit(value: object) -> object:
    text = _as_text(value)
    if not isinstance(text, str) or _AMOUNT.fullmatch(text) is None:
        raise ValueError("a number, or an amount with its currency such as `500 EUR`")
    return text


def _pointer(value: str) -> str:
    if _POINTER.fullmatch(value) is None:
        raise ValueError("where the argument stands, such as /to or /items/*/price")
    return value


def _as_selector(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


Pointer = Annotated[str, StringConstraints(max_length=512), AfterValidator(_pointer)]
Limit = Annotated[
    str,
    BeforeValidator(_limit),
    WithJsonSchema({"type": ["string", "number"]}),
]
_Classes = Annotated[
    tuple[StatementClass, ...],
    BeforeValidator(_as_list),
    WithJsonSchema({"type": ["array", "string"]}),
]
_Sources = Annotated[
    tuple[SourceKind, ...],
    BeforeValidator(_as_list),
    WithJsonSchema({"type": ["array", "string"], "items": {"enum": list(get_args(SourceKind))}}),
]


def amount(limit: str) -> tuple[Decimal, str]:
    """Return number and currency of a limit such as `500 EUR`; the currency may be empty."""
    found = _AMOUNT.fullmatch(limit)
    assert found is not None, "the document was checked"
    return Decimal(found[1]), found[2] or ""


class Selector(Record):
    """Which tools a rule is about: by name or glob, or by capability, or by what they do."""

    name: str = Field(default="", max_length=256)
    capability: str = Field(default="", max_length=256)
    effect: Effect | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Selector:
        if sum((bool(self.name), bool(self.capability), self.effect is not None)) != 1:
            raise ValueError("a name or glob, or one of `capability: ...` and `effect: ...`")
        return self

    def __str__(self) -> str:
        if self.name:
            return self.name
        return f"capability: {self.capability}" if self.capability else f"effect: {self.effect}"


class Constraint(Record):
    """What one argument must be like for a rule to apply; `not` turns it round.

    A value is brought into one form before it is compared. A rule that allows applies if every
    value surely fits, a rule that stops or changes if one may. An argument that is left out fits
    no rule that allows and every `not` of one that stops, unless it is `optional`.
    """

    type: ValueType | None = None
    negated: bool = Field(default=False, alias="not")
    optional: bool = Field(default=False, description="it may be left out")
    under: Names = Field(default=(), description="path: folders that it is in, or is")
    host: Names = Field(default=(), description="url: hosts; `*.example.com` for those below")
    scheme: Names = ()
    port: tuple[int, ...] = ()
    domain: Names = Field(default=(), description="email: as `host`")
    address: Names = Field(default=(), description="email: whole addresses")
    max: Limit | None = None
    min: Limit | None = None
    above: Limit | None = None
    below: Limit | None = None
    currency: Names = ()
    programs: Names = Field(default=(), description="command: every program that it starts")
    classes: _Classes = Field(default=(), alias="class", description="sql: of every statement")
    one_of: Names = ()
    pattern: str = Field(default="", max_length=4096, description="RE2, over the whole text")
    max_length: int | None = Field(default=None, ge=0)
    schema_: dict[str, JsonValue] | None = Field(default=None, alias="schema")

    @model_validator(mode="after")
    def _fits_its_type(self) -> Constraint:
        names = {
            info.alias or name: name
            for name, info in type(self).model_fields.items()
            if name in self.model_fields_set and name not in _OF_ALL
        }
        mine = ("schema",) if self.type is None else (*_FIELDS[self.type], "schema")
        for shown in names:
            if shown not in mine:
                raise _placed(self._elsewhere(shown), shown)
        if not names and self.type is None:
            raise ValueError("`type: ...` with what it must be like, or `schema: ...`")
        self._check_amounts()
        _refuse(pattern_problem(self.pattern) if self.pattern else "", "pattern")
        _refuse(schema_problem(self.schema_) if self.schema_ is not None else "", "schema")
        return self

    def _check_amounts(self) -> None:
        limits = (self.max, self.min, self.above, self.below)
        currencies = {amount(each)[1] for each in limits if each is not None}
        if len(currencies) > 1:
            raise _placed("limits in one currency", "type")

    def _elsewhere(self, shown: str) -> str:
        owner = next((each for each, fields in _FIELDS.items() if shown in fields), None)
        return f"`type: {owner}` beside `{shown}`" if owner else f"no {shown!r} here"


def _refuse(problem: str, field: str) -> None:
    if problem:
        raise _placed(problem, field)


def _placed(expected: str, *at: int | str) -> PydanticCustomError:
    # A brace in the text would be taken for a field of the context.
    return PydanticCustomError("placed", "{expected}", {"expected": expected, "at": list(at)})


class TrustRule(Record):
    """One rule: which calls it is about, and what becomes of them."""

    id: str = Field(pattern=IDENTIFIER)
    tools: Annotated[
        tuple[Annotated[Selector, BeforeValidator(_as_selector)], ...], BeforeValidator(_as_list)
    ] = Field(min_length=1)
    effect: RuleEffect
    args: dict[Pointer, Constraint] = Field(default_factory=dict)
    sources: dict[Pointer, _Sources] = Field(
        default_factory=dict, alias="from", description="where an argument's value came from"
    )
    when: str = Field(default="", max_length=4096, description="a CEL expression")
    priority: int = Field(default=0, ge=-1000, le=1000)
    message: str = Field(default="", max_length=1000)
    change: str = Field(default="", max_length=1000, description="what would change the verdict")
    rewrite: dict[Pointer, JsonValue] = Field(default_factory=dict)
    redact: Annotated[tuple[DataClass, ...], BeforeValidator(_as_list)] = ()
    canary: float | None = Field(default=None, gt=0, le=1, description="share of the sessions")

    @model_validator(mode="after")
    def _says_what_its_effect_needs(self) -> TrustRule:
        for effect in ("rewrite", "redact"):
            given = bool(getattr(self, effect))
            if given and self.effect != effect:
                raise _placed(f"`effect: {effect}` beside `{effect}`", effect)
            if self.effect == effect and not given:
                raise _placed(f"`{effect}: ...` beside `effect: {effect}`", "effect")
        _refuse(expression_problem(self.when) if self.when else "", "when")
        return self


class TrustPolicy(Record):
    """One document of rules. Immutable; `digest` names exactly this content."""

    apiVersion: Literal["agentos/v0.2"]
    kind: Literal["TrustPolicy"]
    name: str = Field(pattern=IDENTIFIER)
    description: str = Field(default="", max_length=2000)
    tenants: Names = Field(default=(), description="whom it binds; empty: all")
    agents: Names = Field(default=(), description="with all that are forked from them; empty: all")
    roles: Names = Field(default=(), description="empty: with and without any")
    mode: Literal["enforce", "shadow"] = Field(
        default="enforce", description="shadow: only say in the journal what it would have done"
    )
    default: Literal["deny", "allow"] = Field(
        default="allow", description="what becomes of a call that no rule lets through"
    )
    rules: tuple[TrustRule, ...] = ()

    @model_validator(mode="after")
    def _names_its_rules_apart(self) -> TrustPolicy:
        seen: set[str] = set()
        for number, rule in enumerate(self.rules):
            if rule.id in seen:
                expected = f"an id of its own, and not that of an earlier rule ({rule.id!r})"
                raise _placed(expected, "rules", number, "id")
            seen.add(rule.id)
        return self

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the policy's canonical JSON, defaults included."""
        return content_digest(self.model_dump(mode="json", by_alias=True))

    @property
    def label(self) -> str:
        """The policy in words."""
        return f"trust policy {self.name}"

    def binds(self, tenant: str, agents: Iterable[Name], roles: Iterable[Name]) -> bool:
        """Return whether the policy holds for a tenant's agent of this descent and these roles."""
        return (
            (not self.tenants or tenant in self.tenants)
            and (not self.agents or not set(self.agents).isdisjoint(agents))
            and (not self.roles or not set(self.roles).isdisjoint(roles))
        )

    def loosening(self) -> Iterator[tuple[Loc, str]]:
        """Yield place and reason of whatever could allow more than without this policy."""
        for number, rule in enumerate(self.rules):
            if rule.effect not in TIGHTENING:
                yield ("rules", number, "effect"), f"the rule {rule.id!r} allows"


def dumped(policy: TrustPolicy) -> dict[str, Any]:
    """Return a policy as a document that is loaded as the same policy."""
    return policy.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {
        "apiVersion": policy.apiVersion,
        "kind": policy.kind,
    }
