"""Stands in for the cedarpy package where its real speed does not matter: it allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class PolicySet:
    """What the real package parses a text into."""

    text: str

    @classmethod
    def from_str(cls, text: str) -> PolicySet:
        """Keep a text."""
        return cls(text)


@dataclass
class AuthzResult:
    """What the real package answers."""

    allowed: bool


def is_authorized(request: dict[str, Any], policies: PolicySet, entities: list[Any]) -> AuthzResult:
    """Allow whatever a permit names."""
    return AuthzResult(request["action"] in policies.text)
