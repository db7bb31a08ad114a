"""The sealed manifest: what an agent may do, what was chosen for it, and why. Never changed.

Its hash stands in every verdict of the agent, so that a trace says under which promises it ran.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _installed_version
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from fmos.canonical import content_digest
from fmos.contract.model import AgentContract
from fmos.contract.narrowing import Choice as LayerChoice
from fmos.contract.policy import Policy
from fmos.errors import FormatError
from fmos.types import Record

Mode = Literal["strict", "smooth", "flexible"]
Step = Literal["normalise", "constraints", "upgrades", "substitutions", "seal"]
MODES: tuple[Mode, ...] = ("strict", "smooth", "flexible")

_MAX_BYTES = 4_000_000


class Choice(Record):
    """Why one field has its value: the layer that decided, in which of the five steps."""

    field: str
    value: str
    layer: str = Field(
        default="request", description="such as `request` or `request + tenant acme`"
    )
    step: Step = "normalise"
    why: str
    alternatives: tuple[str, ...] = Field(default=(), description="what else was looked at")


class Conditions(Record):
    """What the caller states as true at the time of binding."""

    when: tuple[str, ...] = Field(default=(), description="such as `bandwidth_low`")
    unhealthy: tuple[str, ...] = Field(default=(), description="names that must not be chosen")


class Manifest(Record):
    """One agent's binding, sealed by its hash: the SHA-256 of the rest as canonical JSON."""

    apiVersion: Literal["agentos/v0.2"] = "agentos/v0.2"
    kind: Literal["Manifest"] = "Manifest"
    agent: str
    mode: Mode = "strict"
    chosen: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict, description="dimension to what was chosen; all that are granted"
    )
    contract: dict[str, Any] = Field(description="the effective contract, layers merged in")
    limits: dict[str, int | float] = Field(default_factory=dict)
    choices: tuple[Choice, ...] = ()
    notes: tuple[str, ...] = Field(default=(), description="wishes that were not met, and the like")
    canary: bool = Field(default=False, description="a new version is being tried in this session")
    returns_to: dict[str, str] = Field(
        default_factory=dict, description="dimension to the version that a canary returns to"
    )
    conditions: Conditions = Conditions()
    catalogue: str = Field(default="", description="digest; empty: bound without a catalogue")
    policies: dict[str, str] = Field(default_factory=dict, description="policy to its digest")
    sources: tuple[str, ...] = Field(default=(), description="kind and digest of each document")
    created_by: str = ""
    hash: str = ""

    @functools.cached_property
    def effective(self) -> AgentContract:
        """The effective contract as a contract."""
        return AgentContract.model_validate(self.contract)

    def sealed(self) -> Self:
        """Return the manifest with its hash."""
        return self.model_copy(update={"hash": self._reckoned()})

    def verify(self) -> None:
        """Check that nothing was changed since it was sealed.

        Raises:
            FormatError: if the hash is not that of the content.
        """
        reckoned = self._reckoned()
        if reckoned != self.hash:
            raise FormatError(
                f"the manifest of {self.agent!r} was changed after it was sealed: it says the hash"
                f" {self.hash[:12] or '(none)'} and has {reckoned[:12]}",
                hint="bind the document again with `fmos contract bind`",
            )

    def reasons(self, field: str) -> tuple[Choice, ...]:
        """Return why a field has its value, and why the fields below it have theirs."""
        return tuple(
            choice
            for choice in self.choices
            if choice.field == field or choice.field.startswith(field + ".")
        )

    def _reckoned(self) -> str:
        return content_digest(self.model_dump(mode="json", exclude={"hash"}))


def seal(
    contract: AgentContract,
    *,
    choices: Iterable[Choice | LayerChoice] = (),
    policies: Mapping[str, str] | None = None,
    mode: Mode = "strict",
    chosen: Mapping[str, str | tuple[str, ...]] | None = None,
    limits: Mapping[str, int | float] | None = None,
    **facts: Any,
) -> Manifest:
    """Seal an effective contract; without a binding, its capabilities are what was chosen.

    `choices` may be `Merged.why`; `policies` is what `policy_digests` returns; `facts` are other
    fields of the manifest. Takes well under a millisecond.
    """
    if chosen is None:
        chosen = {
            "capabilities": tuple(name for name in contract.capabilities if contract.grants(name))
        }
    bounds = contract.budgets.limits() if limits is None else limits
    return Manifest(
        agent=contract.name,
        mode=mode,
        chosen=dict(chosen),
        contract=contract.model_dump(mode="json", by_alias=True),
        limits=dict(bounds),
        choices=tuple(_as_choice(choice) for choice in choices),
        policies=dict(policies or {}),
        created_by=_creator(),
        **{"sources": (f"contract:{contract.digest}",), **facts},
    ).sealed()


def policy_digests(policies: Iterable[Policy]) -> dict[str, str]:
    """Return layer to digest; where one layer has several policies, `platform#2` and so on."""
    found: dict[str, str] = {}
    for policy in sorted(policies, key=lambda each: (each.label, each.digest)):
        number = 1 + sum(1 for name in found if name.partition("#")[0] == policy.label)
        found[policy.label if number == 1 else f"{policy.label}#{number}"] = policy.digest
    return found


def load_manifest(path: Path) -> Manifest:
    """Read a sealed manifest from a file.

    Raises:
        FormatError: if it cannot be read, is no manifest, or was changed after it was sealed.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise FormatError(
            f"cannot read the manifest {str(path)!r}: {error.strerror}",
            hint="check the path and its permissions",
        ) from error
    return parse_manifest(data, str(path))


def parse_manifest(data: bytes | str, source: str = "<text>") -> Manifest:
    """Return the sealed manifest in a JSON text, checked against its hash.

    Raises:
        FormatError: if it is no manifest, or was changed after it was sealed.
    """
    if len(data) > _MAX_BYTES:
        raise FormatError(
            f"{source} is larger than any manifest ({_MAX_BYTES} bytes)", hint="check the path"
        )
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the text"
        raise FormatError(
            f"{source} is not a manifest: {field}: {first['msg']}",
            hint="make one with `fmos contract bind FILE --out manifest.json`",
        ) from error
    manifest.verify()
    return manifest


_HOW = {
    "request": "as the contract asks",
    "must": "no more than the layers demand",
    "prefer": "suggested where the contract leaves it open",
    "default": "the default, because nobody says otherwise",
}


def _as_choice(choice: Choice | LayerChoice) -> Choice:
    if isinstance(choice, Choice):
        return choice
    text = choice.value if isinstance(choice.value, str) else json.dumps(choice.value)
    layer = " + ".join(choice.layers) or "default"
    return Choice(field=choice.field, value=text, layer=layer, why=_HOW[choice.how])


@functools.lru_cache(maxsize=1)
def _creator() -> str:
    try:
        return f"fmos {_installed_version('fmos')}"
    except PackageNotFoundError:
        return "fmos 0+source"
