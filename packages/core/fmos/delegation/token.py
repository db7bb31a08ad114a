"""The text of a delegation: canonical JSON and its Ed25519 signature, `fmosd1.BODY.SIGNATURE`.

Whoever holds the text gains nothing by it: it counts only for the agent that it names, in the
tenant whose key signed it.
"""

from __future__ import annotations

import base64
import binascii
from typing import Protocol

from pydantic import ValidationError

from fmos.canonical import canonical_json
from fmos.clock import Clock
from fmos.delegation.model import Delegation
from fmos.errors import DeniedError

_MARK = "fmosd1"
#: No other signature of the key is over bytes that begin so.
_PURPOSE = b"fmos delegation v1\n"
#: A clock that is corrected by less was not set back.
_SLACK_NS = 5_000_000_000


class Keys(Protocol):
    """What signs and checks delegations: `AuditKeys`."""

    def sign(self, data: bytes) -> str:
        """Return the signature of `data` in base64."""
        ...

    def verify(self, data: bytes, signature: str) -> bool:
        """Return whether this key made the signature of exactly these bytes."""
        ...


def write_token(delegation: Delegation, keys: Keys) -> str:
    """Return the signed text of a delegation."""
    body = canonical_json(delegation.model_dump(mode="json"))
    signature = keys.sign(_PURPOSE + body)
    return f"{_MARK}.{base64.urlsafe_b64encode(body).decode('ascii')}.{signature}"


def read_token(text: str, keys: Keys) -> Delegation:
    """Return the delegation in a text that the tenant's key signed.

    Raises:
        DeniedError: if it is no such text, was changed, or another key signed it.
    """
    mark, _, rest = text.partition(".")
    encoded, _, signature = rest.partition(".")
    try:
        body = base64.b64decode(encoded.encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        body = b""
    if mark != _MARK or not body:
        raise _refused("it is no delegation")
    if not keys.verify(_PURPOSE + body, signature):
        raise _refused("it was changed, or not signed with the key that the tenant has now")
    try:
        found = Delegation.model_validate_json(body)
    except ValidationError as error:
        raise _refused("another version of FMOS made it") from error
    return found


def problem(delegation: Delegation, tenant: str, child: str, clock: Clock, seen_ns: int = 0) -> str:
    """Return why a delegation does not count for an agent now, as a sentence; empty if it does.

    `seen_ns` is the latest time at which it was used.
    """
    if delegation.tenant != tenant:
        return f"its delegation is of the tenant {delegation.tenant!r}, not of {tenant!r}"
    if delegation.child != child:
        return f"its delegation is for the agent {delegation.child!r}, not for {child!r}"
    now_ns, up = clock.now_ns(), clock.uptime()
    if now_ns + _SLACK_NS < max(delegation.issued_ns, seen_ns):
        return "the clock was set back since its delegation was made or used"
    late = bool(up.boot) and up.boot == delegation.boot and up.ns >= delegation.up_until_ns
    if late or now_ns >= delegation.expires_ns:
        return "its delegation has expired"
    return ""


def _refused(why: str) -> DeniedError:
    return DeniedError(
        f"the delegation cannot be used: {why}",
        hint="let a person delegate anew with `fmos agent delegate`",
    )
