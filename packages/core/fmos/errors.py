"""The kernel's error tree. Doors map `code` and `exit_code`; nothing else translates errors.

FmosError                     fmos.error             1
├── HomeError                 home.unusable          3
├── ContractError             contract.invalid       4
├── ArgumentError             argument.invalid       5   (ValueError)
├── PrincipalError            principal.mismatch     6   (PermissionError)
├── BudgetExceededError       budget.exceeded        7
├── NotFoundError             state.not_found        8   (LookupError)
├── ServerUnreachableError    client.unreachable     9   (ConnectionError)
├── ToolCallError             client.tool_error     10
├── DeniedError               trust.denied          11   (PermissionError)
├── MissingExtraError         install.missing_extra 12   (ImportError)
├── FormatError               storage.format        13
├── StorageError              storage.unavailable   14   (OSError)
├── BindingError              contract.unmet        15
├── AdmissionError            contract.not_admitted 16
├── DriverError               driver.unusable       31
├── StepFailedError           step.failed           21
├── InDoubtError              step.in_doubt         22
├── CompensationError         step.uncompensated    23
└── WaitingError              workflow.waiting      24
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

#: Where a tool result carries the stable code of its error, so that a client raises the same class.
ERROR_CODE_META_KEY = "fmos/error_code"

#: Where it carries what the error says beside its sentence, such as the account that is empty.
ERROR_FIELDS_META_KEY = "fmos/error_fields"


class FmosError(Exception):
    """Root of the tree: a sentence that names the thing and the way out, with a stable code."""

    code = "fmos.error"
    exit_code = 1

    #: Attributes that travel with the sentence to a client.
    fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.hint = hint

    def meta(self) -> dict[str, Any]:
        """Return what a tool result carries in `_meta` for a client to raise the same error."""
        meta: dict[str, Any] = {ERROR_CODE_META_KEY: self.code}
        if self.fields:
            meta[ERROR_FIELDS_META_KEY] = {name: getattr(self, name) for name in self.fields}
        return meta


class HomeError(FmosError):
    """The FMOS home cannot be used."""

    code = "home.unusable"
    exit_code = 3


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong in a document; line and column count from 1, 0 is unknown."""

    line: int
    column: int
    field: str
    found: str
    expected: str
    message: str
    hint: str = ""


class ContractError(FmosError):
    """A contract or policy document is not valid; `complaints` lists all that is wrong in it."""

    code = "contract.invalid"
    exit_code = 4

    def __init__(
        self, message: str, *, hint: str = "", complaints: tuple[Complaint, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.complaints = complaints


class ArgumentError(FmosError, ValueError):
    """A tool or command got an argument it cannot take."""

    code = "argument.invalid"
    exit_code = 5


class PrincipalError(FmosError, PermissionError):
    """The ids in the arguments do not match the ones the server was started for."""

    code = "principal.mismatch"
    exit_code = 6


class BudgetExceededError(FmosError):
    """An account on the path has not enough left."""

    code = "budget.exceeded"
    exit_code = 7
    fields = ("account", "resource", "asked", "left")

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        account: str = "",
        resource: str = "",
        asked: int = 0,
        left: int = 0,
    ) -> None:
        super().__init__(message, hint=hint)
        self.account = account
        self.resource = resource
        self.asked = asked
        self.left = left


class NotFoundError(FmosError, LookupError):
    """A named memory, handle, session or approval does not exist."""

    code = "state.not_found"
    exit_code = 8


class ServerUnreachableError(FmosError, ConnectionError):
    """No server answers at the address."""

    code = "client.unreachable"
    exit_code = 9


class ToolCallError(FmosError):
    """A server answered a tool call with an error."""

    code = "client.tool_error"
    exit_code = 10


class DeniedError(FmosError, PermissionError):
    """A privileged operation was denied and the caller has no softer way to say so."""

    code = "trust.denied"
    exit_code = 11


class MissingExtraError(FmosError, ImportError):
    """An optional dependency is not installed."""

    code = "install.missing_extra"
    exit_code = 12


class FormatError(FmosError):
    """A file is not what it should be, or is of a newer format."""

    code = "storage.format"
    exit_code = 13


class StorageError(FmosError, OSError):
    """A store cannot be written or read now: the disk is full, fails, or is held by another."""

    code = "storage.unavailable"
    exit_code = 14


@dataclass(frozen=True, slots=True)
class Unmet:
    """One hard requirement that nothing on offer meets."""

    dimension: str
    wanted: tuple[str, ...]
    available: tuple[str, ...]
    nearest: str
    why: str


class BindingError(FmosError):
    """Hard requirements of a document cannot be met; `unmet` lists all of them."""

    code = "contract.unmet"
    exit_code = 15

    def __init__(self, message: str, *, hint: str = "", unmet: tuple[Unmet, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.unmet = unmet


class AdmissionError(FmosError):
    """What a manifest promises cannot be kept on this host, or is out of its scope."""

    code = "contract.not_admitted"
    exit_code = 16


class DriverError(FmosError):
    """A plug-in cannot be used: not allowed, ambiguous, broken, of another API, or too slow."""

    code = "driver.unusable"
    exit_code = 31


class StepFailedError(FmosError):
    """A step's action failed; what it had written to the agent's volume was undone."""

    code = "step.failed"
    exit_code = 21


class InDoubtError(FmosError):
    """Whether a step's effect happened is not known, and a person must say so."""

    code = "step.in_doubt"
    exit_code = 22


class CompensationError(FmosError):
    """A compensation failed as often as it may; a person must look at what is left."""

    code = "step.uncompensated"
    exit_code = 23


class WaitingError(FmosError):
    """A workflow waits for a person's answer."""

    code = "workflow.waiting"
    exit_code = 24


def error_from_meta(message: str, meta: Mapping[str, Any]) -> FmosError:
    """Return the error that a tool result describes, with its fields; the message has its hint."""
    cls = error_for_code(str(meta.get(ERROR_CODE_META_KEY, "")))
    error = cls(message)
    given = meta.get(ERROR_FIELDS_META_KEY)
    fields: dict[str, Any] = given if isinstance(given, dict) else {}
    for name in cls.fields:
        if name in fields:
            setattr(error, name, fields[name])
    return error


def error_for_code(code: str) -> type[FmosError]:
    """Return the class with this stable code; `ToolCallError` for a code that is not ours."""
    known = {cls.code: cls for cls in (FmosError, *FmosError.__subclasses__())}
    return known.get(code, ToolCallError)
