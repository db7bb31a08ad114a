"""How a seam is put down: as one that our middleware intercepts, or as one that it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fmos.check.canary import CanarySession
from fmos.check.seams import Seam, source_of
from fmos.types import OperationKind

TOOL = OperationKind.TOOL_CALL
MODEL = OperationKind.MODEL_GENERATE

LAST = "put FmosMiddleware last in `middleware=[...]`: what stands after it runs inside of it"


def intercepted(
    name: str, code: Any, drive: Callable[[CanarySession], None], kind: OperationKind = TOOL
) -> Seam:
    """Return a seam at which `code` of ours must intercept every call."""
    return Seam(name, source_of(code), kind, drive)


def declared(
    name: str,
    code: Any,
    drive: Callable[[CanarySession], None],
    reason: str,
    hint: str,
    kind: OperationKind = TOOL,
) -> Seam:
    """Return a seam that this adapter cannot intercept: `code` of the framework runs unasked."""
    return Seam(name, source_of(code), kind, drive, intercepts=False, reason=reason, hint=hint)
