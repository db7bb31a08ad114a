"""Stands in for detect-secrets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any


@contextmanager
def default_settings() -> Iterator[SimpleNamespace]:
    """Give settings with two plugins."""
    yield SimpleNamespace(plugins={"KeywordDetector": {}, "AWSKeyDetector": {}})


@contextmanager
def transient_settings(told: dict[str, Any]) -> Iterator[None]:
    """Take settings."""
    yield
