"""Approvals: a person's answer, bound to exactly one call of one session, for a time, once.

`decide` is the person's door (`fmos approve`, or a client's elicitation). No tool of the server
reaches it, so an agent cannot approve its own request: the id that it is told is no authority. What
lies in kernel.db counts only under the seal that the tenant's key gives it, and an answer that the
journal says was used is used, whatever the row says.
"""

from __future__ import annotations

import secrets
from hmac import compare_digest

from fmos.audit.record import INTENT
from fmos.canonical import canonical_json
from fmos.effects import Effect
from fmos.errors import ArgumentError, DeniedError, NotFoundError
from fmos.replay.recording import Call
from fmos.runtime.kernel import Kernel
from fmos.types import Principal, Reason, new_id
from fmos_trust.approval_store import ApprovalStore
from fmos_trust.facts import Facts
from fmos_trust.keyed import KeyedHash
from fmos_trust.model import Approval, ShownEffect
from fmos_trust.secrets import masked
from fmos_trust.shown import arguments_text, visible
from fmos_trust.store import TrustStore

_NS = 1_000_000_000
#: An approved call may run for so long after the yes.
LIFETIME_NS = 600 * _NS
#: What ended is remembered for so long, a no with it.
_KEPT_NS = 30 * 86_400 * _NS


class TooManyWaitError(DeniedError):
    """So many calls of one agent wait that no other is asked about."""


class Approvals:
    """The operations of one home that wait for a person. Thread-safe, also across processes."""

    def __init__(self, kernel: Kernel, store: TrustStore | None = None) -> None:
        self._kernel = kernel
        self._secrets = store or TrustStore(kernel.database)
        self._store = ApprovalStore(kernel.database)
        self._settings = kernel.settings.trust

    def request(
        self, facts: Facts, reasons: tuple[Reason, ...], effect: Effect | None = None
    ) -> Approval:
        """Ask a person about a call; an equal call that waits already is not asked about twice.

        Raises:
            TooManyWaitError: if as many calls of the agent wait as the settings allow.
        """
        now_ns, operation = self._now(), facts.operation
        who, digest = operation.principal, self.digest(facts)
        known = self._store.same(digest, now_ns)
        if known is not None and (effect is None or self._shows(known, effect)):
            return known
        if known is not None:  # a person may be looking at the other one just now
            self._store.replace(known)
        elif self._store.count(who, now_ns) >= self._settings.max_pending:
            raise TooManyWaitError(
                f"{self._settings.max_pending} calls of the agent {who.agent!r} wait for a person"
                " already, so this one is not asked about",
                hint="wait for their answers, or go on without it",
            )
        found = tuple(self._clean(who, reason) for reason in reasons)
        up = self._kernel.clock.uptime()
        within_ns = int(self._settings.approve_within_s * _NS)
        approval = Approval(
            id=new_id(),
            principal=who,
            operation=operation.id,
            server=server_of(facts),
            kind=operation.kind.value,
            tool=operation.name,
            shown=self._masked(who, arguments_text(operation.arguments, reasons)),
            reasons=tuple(reason.message for reason in found),
            findings=found,
            policy=facts.pinned,
            digest=digest,
            nonce=secrets.token_hex(16),
            state="pending",
            created_ns=now_ns,
            expires_ns=now_ns + within_ns,
            boot=up.boot,
            up_until_ns=up.ns + within_ns,
            effect=None if effect is None else self._shown_effect(who, effect),
        )
        return self._store.put(approval, self._seal(approval))

    def attach(self, waiting: Approval, facts: Facts, effect: Effect) -> Approval:
        """Let a waiting approval show an effect; one that shows another is asked for anew."""
        who = waiting.principal
        if waiting.effect is None:
            shows = waiting.model_copy(update={"effect": self._shown_effect(who, effect)})
            was = self._store.seal(waiting.id)
            if self._store.change(shows, self._seal(shows), was, self._now()):
                return shows
            waiting = self._known(waiting.id)
        if waiting.state == "pending" and self._shows(waiting, effect):
            return waiting
        return self.request(facts, waiting.findings, effect)

    def pending(self, who: Principal | None = None) -> list[Approval]:
        """Return what waits, oldest first: of one agent, or of the whole home."""
        waiting = [each for each in self._store.waiting(self._now()) if self._is_ours(each)]
        if who is None:
            return waiting
        own = (who.tenant, who.agent_key)
        return [
            each for each in waiting if (each.principal.tenant, each.principal.agent_key) == own
        ]

    def unanswered(self, id: str) -> Approval:
        """Return an approval that waits for an answer.

        Raises:
            NotFoundError: if there is no such approval.
            ArgumentError: if it was answered before, or has expired.
        """
        self._now()
        found = self._known(id)
        if not self._is_ours(found) or found.state != "pending" or found.expired:
            raise self._cannot(found)
        return found

    def decide(
        self, id: str, approve: bool, approver: str, reason: str = "", effect: str | None = None
    ) -> Approval:
        """Answer one approval; an approved call may run once within the next ten minutes.

        `effect` is the digest of the effect that the person was shown, empty for none; without it
        the answer is for whatever effect the approval has.

        Raises:
            NotFoundError: if there is no such approval.
            ArgumentError: if it was answered before, has expired, or shows something else now.
            DeniedError: if the settings name who may answer, and not this person.
        """
        found, now_ns = self.unanswered(id), self._now()
        self._require_may_answer(found, approver, now_ns)
        if effect is not None and effect != (found.effect.digest if found.effect else ""):
            raise ArgumentError(
                f"the approval {id!r} shows another effect by now", hint="look at it again"
            )
        answered = self._answered(found, approve, approver, reason, now_ns)
        was = self._store.seal(id)
        if not self._store.change(answered, self._seal(answered), was, now_ns):
            raise self._cannot(self._known(id))
        detail = {
            "id": id, "state": answered.state, "approver": approver, "operation": found.operation,
        }  # fmt: skip
        if found.effect is not None:
            detail["effect"] = found.effect.digest
        answer = {"id": id, "approve": approve, "approver": approver, "reason": reason}
        call = Call("approval.decide", answer, outside=True)
        self._kernel.record(found.principal, "approval.decide", detail, call=call)
        return answered

    def _answered(
        self, found: Approval, approve: bool, approver: str, reason: str, now_ns: int
    ) -> Approval:
        up = self._kernel.clock.uptime()
        return found.model_copy(
            update={
                "state": "approved" if approve else "denied",
                "approver": approver,
                "comment": reason,
                "expires_ns": now_ns + LIFETIME_NS,
                "boot": up.boot,
                "up_until_ns": up.ns + LIFETIME_NS,
                "decided_seq": self._kernel.agent_fs(found.principal).watch().seq,
            }
        )

    def _require_may_answer(self, found: Approval, approver: str, now_ns: int) -> None:
        """Refuse a person whom the settings do not name; escalation names more of them."""
        asked = self.asked_of(found, now_ns)
        if asked and approver not in asked:
            raise DeniedError(
                f"{approver} may not answer the approval {found.id!r}",
                hint=f"let one of {', '.join(asked)} answer",
            )

    def asked_of(self, found: Approval, now_ns: int) -> tuple[str, ...]:
        """Return who may answer now; empty: whoever has a terminal of this home."""
        own = self._settings.approvers
        return (*own, *self._settings.escalate_to) if own and found.escalated(now_ns) else own

    def _cannot(self, found: Approval) -> ArgumentError:
        return ArgumentError(
            f"the approval {found.id!r} {self._why_not(found)}",
            hint="let the agent ask again for a new one",
        )

    def _why_not(self, found: Approval) -> str:
        if not self._is_ours(found):
            return "was not made by this gate, or was changed since"
        if found.state == "replaced":
            return "was replaced by another one: the effect is another by now"
        if found.state == "pending":
            return "has expired"
        return f"is {found.state} already (by {found.approver})"

    def use(self, id: str, facts: Facts) -> str:
        """Use up the approval of a call; return why it cannot be used, or an empty text."""
        digest = self.digest(facts)
        now_ns = self._now()
        found = self._store.get(id)
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
        found = self._store.get(id) if id else None
        return found if found is not None and self._is_ours(found) else None

    def refused(self, facts: Facts) -> Approval | None:
        """Return the no that a person gave to exactly this call of this session, if any did."""
        found = self._store.refused(self.digest(facts))
        return found if found is not None and self._is_ours(found) else None

    def replace(self, approval: Approval) -> None:
        """End an approval in whose place another one is asked for."""
        self._store.replace(approval)

    def digest(self, facts: Facts) -> str:
        """Return the keyed digest that binds an answer to one call of one session.

        Of the whole principal, the server, the kind, the tool, its arguments, and what judged it.
        """
        operation = facts.operation
        who = operation.principal
        call = [server_of(facts), operation.kind.value, operation.name, operation.arguments]
        asked = canonical_json([who.model_dump(mode="json"), call, facts.pinned])
        return self._kernel.keys_of(who.tenant).digest(asked)

    def expire(self) -> None:
        """End what is out of time, and forget what ended long ago."""
        now_ns = self._now()
        self._store.forget(now_ns - _KEPT_NS)

    def _now(self) -> int:
        """Return the time, after ending for good whatever it is too late for."""
        now_ns = self._kernel.clock.now_ns()
        self._store.expire(now_ns, self._kernel.clock.uptime())
        return now_ns

    def _seal(self, approval: Approval) -> str:
        """Return what only the tenant's key can say of an approval as it is."""
        said = canonical_json(approval.model_dump(mode="json", exclude={"expired"}))
        return self._kernel.keys_of(approval.principal.tenant).seal("approval", said)

    def _is_ours(self, approval: Approval) -> bool:
        """Return whether an approval is as the gate wrote it, but for how it ended.

        A used one was sealed as approved.
        """
        sealed = approval
        if approval.state == "used":
            sealed = approval.model_copy(update={"state": "approved"})
        elif approval.state == "replaced":
            before = "approved" if approval.approver else "pending"
            sealed = approval.model_copy(update={"state": before})
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

    def _shows(self, approval: Approval, effect: Effect) -> bool:
        shown = approval.effect
        return shown is not None and (shown.branch, shown.digest) == (effect.branch, effect.digest)

    def _shown_effect(self, who: Principal, effect: Effect) -> ShownEffect:
        return ShownEffect(
            branch=effect.branch,
            digest=effect.digest,
            paths=tuple((each.kind, visible(each.path), each.size) for each in effect.changes),
            patch=self._masked(who, effect.patch),
        )

    def _clean(self, who: Principal, reason: Reason) -> Reason:
        message, change = (visible(each) for each in (reason.message, reason.change))
        update = {"message": self._masked(who, message), "change": self._masked(who, change)}
        return reason.model_copy(update=update)

    def _masked(self, who: Principal, text: str) -> str:
        """Return a text as a person sees it, without the secrets that the agent has seen."""
        lineage = self._kernel.agents.lineage(who)
        hidden = self._secrets.secrets(who.tenant, lineage)
        return masked(text, hidden, KeyedHash(self._kernel.keys_of(who.tenant)))

    def _known(self, id: str) -> Approval:
        found = self._store.get(id)
        if found is None:
            raise NotFoundError(
                f"there is no approval {id!r}", hint="run `fmos pending` to see what waits"
            )
        return found


def server_of(facts: Facts) -> str:
    """Return the server that a tool is of; empty where its application has it itself."""
    return str(getattr(facts.descriptor, "server", "") or "")
