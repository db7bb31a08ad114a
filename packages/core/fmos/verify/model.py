"""What is verified and what is found: claims, findings, results, and the verifier's protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from fmos.types import Record

#: A claim longer than this is not looked at.
MAX_CLAIM_CHARACTERS = 1_000_000


class ClaimVerdict(StrEnum):
    """What a verifier says of a claim."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


class Claim(Record):
    """One statement that can be checked."""

    type: str = Field(
        min_length=1, max_length=64, description="arithmetic, units, json, sql, citation, ..."
    )
    text: str = Field(default="", max_length=MAX_CLAIM_CHARACTERS)
    content: dict[str, Any] = Field(
        default_factory=dict, description="the parts of a structured claim; docs/verifiers.md"
    )
    sources: tuple[str, ...] = Field(
        default=(), description="what it rests on: names, NAME@sha256:DIGEST pins the content"
    )
    risk: float = Field(default=0.5, ge=0, le=1, description="of relying on it if it is wrong")
    operation: str = Field(default="", description="id of the operation that made the claim")
    line: int = Field(default=0, ge=0, description="where it is in its text, from 1; 0: unknown")


class Finding(Record):
    """What one verifier found."""

    verdict: ClaimVerdict
    confidence: float = Field(default=1.0, ge=0, le=1)
    explanation: str = ""
    evidence: tuple[str, ...] = ()
    verifier: str = ""


class Result(Record):
    """What became of one claim: the findings, and what follows from all of them."""

    claim: Claim
    verdict: ClaimVerdict
    confidence: float = Field(ge=0, le=1)
    explanation: str
    findings: tuple[Finding, ...] = ()
    skipped: tuple[str, ...] = Field(default=(), description="why verifiers did not run")


@dataclass(frozen=True, slots=True)
class Source:
    """A text that claims may rest on."""

    name: str
    text: str

    @property
    def digest(self) -> str:
        """The SHA-256 of the text's UTF-8 bytes, in hex."""
        return hashlib.sha256(self.text.encode("utf-8", "replace")).hexdigest()


class SourceFinder(Protocol):
    """Where sources are looked up by name."""

    def find(self, name: str) -> Source | None:
        """Return the source of that name, or None."""
        ...


@dataclass(frozen=True, slots=True)
class NamedSources:
    """Sources that are there already."""

    sources: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Source | None:
        """Return the source of that name, or None."""
        text = self.sources.get(name)
        return None if text is None else Source(name, text)


@dataclass(frozen=True, slots=True)
class Context:
    """What a verifier may use beside the claim: sources, and what documents must look like.

    Args:
        sources: Where sources are found.
        schema: The JSON schema that JSON claims must fit, unless a claim has its own.
        tables: Table to column to type: what SQL claims may use.
        rows: Table to rows: what a SELECT may be run on.
        dialect: The SQL dialect; empty for the usual one.
        read_only: Whether SQL that changes something is refuted.
    """

    sources: SourceFinder = NamedSources()
    schema: Any = None
    tables: Mapping[str, Mapping[str, str]] | None = None
    rows: Mapping[str, list[dict[str, Any]]] | None = None
    dialect: str = ""
    read_only: bool = True


@runtime_checkable
class Verifier(Protocol):
    """Checks claims of some types. Stateless or thread-safe; bounded in time and memory."""

    name: str
    claim_types: tuple[str, ...]
    #: In the ledger's units, such as {"verifier_runs": 1}.
    cost: Mapping[str, int]

    def check(self, claim: Claim, context: Context) -> Finding:
        """Return what is found; what cannot be told is `undecided`, never an error."""
        ...


def supported(explanation: str, *evidence: str, confidence: float = 1.0) -> Finding:
    """Return that a claim holds."""
    return _finding(ClaimVerdict.SUPPORTED, explanation, evidence, confidence)


def refuted(explanation: str, *evidence: str, confidence: float = 1.0) -> Finding:
    """Return that a claim does not hold."""
    return _finding(ClaimVerdict.REFUTED, explanation, evidence, confidence)


def undecided(explanation: str, *evidence: str, confidence: float = 0.0) -> Finding:
    """Return that it cannot be told whether a claim holds."""
    return _finding(ClaimVerdict.UNDECIDED, explanation, evidence, confidence)


def _finding(
    verdict: ClaimVerdict, explanation: str, evidence: tuple[str, ...], confidence: float
) -> Finding:
    return Finding(
        verdict=verdict, explanation=explanation, evidence=evidence, confidence=confidence
    )
