"""What lint says of a document that is valid: what is probably not meant, and where."""

from __future__ import annotations

from typing import Literal, NamedTuple

from fmos.contract.positions import Loc


class Doubt(NamedTuple):
    """What is probably not meant, and where."""

    code: str
    loc: Loc
    message: str
    hint: str
    severity: Literal["error", "warning"] = "warning"
