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
└── FormatError               storage.format        13
"""

from __future__ import annotations

#: Where a tool result carries the stable code of its error, so that a client raises the same class.
ERROR_CODE_META_KEY = "fmos/error_code"


class FmosError(Exception):
    """Root of the tree: a sentence that names the thing and the way out, with a stable code."""

    code = "fmos.error"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.hint = hint


class HomeError(FmosError):
    """The FMOS home cannot be used."""

    code = "home.unusable"
    exit_code = 3


class ContractError(FmosError):
    """A contract or policy document is not valid."""

    code = "contract.invalid"
    exit_code = 4


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


def error_for_code(code: str) -> type[FmosError]:
    """Return the class with this stable code; `ToolCallError` for a code that is not ours."""
    known = {cls.code: cls for cls in (FmosError, *FmosError.__subclasses__())}
    return known.get(code, ToolCallError)
