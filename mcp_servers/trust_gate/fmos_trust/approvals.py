"""Approvals: a person's answer, bound to exactly one call, for ten minutes, once.

`decide` is the person's door (the `fmos approve` command). No tool of the server reaches it, so
an agent cannot approve its own request. What lies in kernel.db counts only under the seal that the
tenant's key gives it, and an answer that the journal says was used is used, whatever the row says.
"""

from __future__ import annotations

from hmac import compare_digest

from fmos.audit.record import INTENT
from fmos.canonical import canonical_json
from fmos.errors import ArgumentError, NotFoundError
from fmos.replay.recording import Call
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, Principal, Reason, new_id
from fmos_trust.keyed import KeyedHash
from fmos_trust.model import Approval
from fmos_trust.secrets import masked
from fmos_trust.store import TrustStore

LIFETIME_NS = 600 * 1_000_000_000
_SHOWN_CHARACTERS = 4_000


class Approvals:
    """The operations of one home that wait for a person."""

    def __init__(self, kernel: Kernel, store: TrustStore | None = None) -> None:
        self._kernel = kernel
        self._store = store or TrustStore(kernel.database)

    def request(self, operation: Operation, policy: str, reasons: tuple[Reason, ...]) -> Approval:
        """Ask a person about a call; an equal call that waits already is not asked about twice."""
        now_ns = self._now()
        shown = self._shown(operation)
        up = self._kernel.clock.uptime()
        approval = Approval(
            id=new_id(),
            principal=operation.principal,
            operation=operation.id,
            tool=operation.name,
            shown=shown,
            reasons=tuple(reason.message for reason in reasons),
            digest=self.digest(operation, policy),
            state="pending",
            created_ns=now_ns,
            expires_ns=now_ns + LIFETIME_NS,
            boot=up.boot,
            up_until_ns=up.ns + LIFETIME_NS,
        )
        return self._store.put_approval(approval, self._seal(approval))

    def pending(self, who: Principal | None = None) -> list[Approval]:
        """Return what waits, oldest first: of one agent, or of the whole home."""
        waiting = [each for each in self._store.waiting(self._now()) if self._is_ours(each)]
        if who is None:
            return waiting
        own = (who.tenant, who.agent_key)
        return [
            each for each in waiting if (each.principal.tenant, each.principal.agent_key) == own
        ]

    def decide(self, id: str, approve: bool, approver: str, reason: str = "") -> Approval:
        """Answer one approval; an approved call may run once within the next ten minutes.

        Raises:
            NotFoundError: if there is no such approval.
            ArgumentError: if it was answered before, or has expired.
        """
        found = self._known(id)
        now_ns, up = self._now(), self._kernel.clock.uptime()
        state = "approved" if approve else "denied"
        detail = {"id": id, "state": state, "approver": approver, "operation": found.operation}
        answered = found.model_copy(
            update={
                "state": state,
                "approver": approver,
                "comment": reason,
                "expires_ns": now_ns + LIFETIME_NS,
                "boot": up.boot,
                "up_until_ns": up.ns + LIFETIME_NS,
                "decided_seq": self._kernel.agent_fs(found.principal).watch().seq,
            }
        )
        decided = self._is_ours(found) and self._store.decide(
            answered, self._seal(answered), now_ns
        )
        if not decided:
            raise ArgumentError(
                f"the approval {id!r} {self._why_not(self._known(id))}",
                hint="let the agent ask again for a new one",
            )
        answer = {"id": id, "approve": approve, "approver": approver, "reason": reason}
        call = Call("approval.decide", answer, outside=True)
        self._kernel.record(found.principal, "approval.decide", detail, call=call)
        return answered

    def _why_not(self, found: Approval) -> str:
        if not self._is_ours(found):
            return "was not made by this gate, or was changed since"
        return "has expired" if found.state == "pending" else f"is {found.state} already"

    def use(self, id: str, operation: Operation, policy: str) -> str:
        """Use up the approval of a call; return why it cannot be used, or an empty text."""
        digest = self.digest(operation, policy)
        now_ns = self._now()
        found = self._store.approval(id)
        if found is None:
            return f"there is no approval {id!r}"
        if not self._is_ours(found):
            return f"the approval {id!r} was not made by this gate, or was changed since"
        if not self._was_used(found) and self._store.use(id, digest, now_ns):
            return ""
        found = self._known(id)
        if found.digest != digest:
            return f"the approval {id!r} is for another call"
        if found.state == "used" or self._was_used(found):
            return f"the approval {id!r} was used already"
        return f"the approval {id!r} has expired"

    def state(self, id: str) -> Approval | None:
        """Return an approval, or None; one that the gate did not write is None."""
        found = self._store.approval(id)
        return found if found is not None and self._is_ours(found) else None

    def digest(self, operation: Operation, policy: str) -> str:
        """Return the keyed digest that binds an answer to agent, tool, arguments and policy."""
        who = operation.principal
        call = [who.tenant, who.agent_key, operation.kind.value, operation.name]
        asked = canonical_json([*call, operation.arguments, policy])
        return self._kernel.keys_of(who.tenant).digest(asked)

    def _now(self) -> int:
        """Return the time, after ending for good whatever it is too late for."""
        now_ns = self._kernel.clock.now_ns()
        self._store.expire(now_ns, self._kernel.clock.uptime())
        return now_ns

    def _seal(self, approval: Approval) -> str:
        """Return what only the tenant's key can say of an approval as it is."""
        said = canonical_json(approval.model_dump(mode="json"))
        return self._kernel.keys_of(approval.principal.tenant).seal("approval", said)

    def _is_ours(self, approval: Approval) -> bool:
        """Return whether an approval is as the gate wrote it; a used one was sealed as approved."""
        sealed = approval
        if approval.state == "used":
            sealed = approval.model_copy(update={"state": "approved"})
        return compare_digest(self._seal(sealed), self._store.seal(approval.id))

    def _was_used(self, approval: Approval) -> bool:
        """Return whether the journal has a call that this approval let through."""
        if approval.state != "approved":
            return False
        rows = self._kernel.agent_fs(approval.principal).journal(
            since=approval.decided_seq, operation=INTENT
        )
        return any(
            row.detail.get("approval") == approval.id and row.detail.get("decision") == "allow"
            for row in rows
        )

    def _shown(self, operation: Operation) -> str:
        """Return the arguments as a person sees them: without secrets, and not without end."""
        who = operation.principal
        lineage = self._kernel.agents.lineage(who)
        text = canonical_json(operation.arguments).decode("ascii")
        hidden = self._store.secrets(who.tenant, lineage)
        shown = masked(
            text[:_SHOWN_CHARACTERS], hidden, KeyedHash(self._kernel.keys_of(who.tenant))
        )
        return shown if len(text) <= _SHOWN_CHARACTERS else f"{shown}... (of {len(text)} in all)"

    def _known(self, id: str) -> Approval:
        found = self._store.approval(id)
        if found is None:
            raise NotFoundError(
                f"there is no approval {id!r}", hint="run `fmos pending` to see what waits"
            )
        return found
