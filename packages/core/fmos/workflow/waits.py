"""What runs ask of people: one question for each step, with a time-out that escalates or denies.

The answering is a person's door (`fmos workflow answer`). No tool of a server reaches it. What lies
in kernel.db counts only under the seal that the tenant's key gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hmac import compare_digest

from fmos.canonical import canonical_json
from fmos.errors import ArgumentError, DeniedError, FormatError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos.workflow.model import Run, Waiting, WaitKind
from fmos.workflow.store import StoredWait, WorkflowStore

_NS = 1_000_000_000
#: Who has answered where nobody did.
NOBODY = "time-out"


class Waits:
    """The questions of one home's runs. Thread-safe, and safe across processes."""

    def __init__(self, kernel: Kernel, store: WorkflowStore) -> None:
        self._kernel = kernel
        self._store = store

    def ask(self, run: Run, step: str, kind: WaitKind, about: Sequence[str] = ()) -> Waiting:
        """Return a step's question as it is now; it is asked the first time, and about more anew.

        A consent lets through what it was asked about, and not what a contract wants it for since.
        One without a seal, of before there were any, is asked once more, whatever it says.

        Raises:
            FormatError: if it is not as it was written.
        """
        now_ns = self._kernel.clock.now_ns()
        known = self._store.wait(run.tenant, run.run, step)
        if known is not None and known.seal:
            return self._about_more(run, known, about, now_ns)
        wait = Waiting(
            tenant=run.tenant, run=run.run, step=step, kind=kind, about=tuple(about),
            asked_ns=now_ns, due_ns=_due(run, now_ns),
        )  # fmt: skip
        made = self._sealed(wait)
        with self._kernel.database.transaction():
            new = self._store.change(known, made) if known else self._store.add_wait(made)
        if new:
            self._note(wait, "workflow.wait", {"kind": kind, "about": list(about)})
        return wait

    def _about_more(
        self, run: Run, stored: StoredWait, about: Sequence[str], now_ns: int
    ) -> Waiting:
        """Return a question as it is, or ask about what an approved consent does not cover."""
        known = self._own(stored)
        given = (*known.consented, *known.about)
        more = tuple(each for each in about if each not in given)
        if known.kind != "consent" or known.state != "approved" or not more:
            return known
        wait = Waiting(
            tenant=run.tenant, run=run.run, step=known.step, kind=known.kind, about=more,
            consented=given, asked_ns=now_ns, due_ns=_due(run, now_ns),
        )  # fmt: skip
        made = self._sealed(wait)
        with self._kernel.database.transaction():
            new = self._store.change(stored, made)
        if new:
            self._note(wait, "workflow.wait", {"kind": wait.kind, "about": list(more)})
        return wait

    def expire(self) -> int:
        """Deny or escalate what nobody answered in time; return how many questions that were."""
        now_ns = self._kernel.clock.now_ns()
        count = 0
        for stored in self._store.due(now_ns):
            known = self._store.get(stored.wait.tenant, stored.wait.run)
            # One that was changed is refused where it is used; it holds up no others.
            if known is not None and self._is_own(stored):
                count += self._time_out(known.run, stored, now_ns)
        return count

    def answer(self, run: Run, step: str, approve: bool, *, by: str, comment: str = "") -> Waiting:
        """Answer a question, once.

        Raises:
            NotFoundError: if the step asks nothing.
            ArgumentError: if it was answered before.
            FormatError: if it is not as it was written.
            DeniedError: if the run wants another person than the one who started it.
        """
        self.expire()
        self._open(run, step)
        if approve and run.options.four_eyes and by == run.requested_by:
            raise DeniedError(
                f"{by} started the run {run.run!r} and cannot approve its steps",
                hint="let somebody else answer",
            )
        state = "approved" if approve else "denied"
        said = {"state": state, "answered_by": by, "comment": comment}
        while True:
            stored = self._open(run, step)
            answered = self._own(stored).model_copy(update=said)
            made, now_ns = self._sealed(answered, stored.level), self._kernel.clock.now_ns()
            with self._kernel.database.transaction():
                changed = self._store.change(stored, made, now_ns)
            if changed:  # else it was escalated or answered meanwhile
                break
        self._note(answered, "workflow.answer", {"state": state, "by": by})
        return answered

    def _open(self, run: Run, step: str) -> StoredWait:
        """Return a question that was not answered yet."""
        stored = self._store.wait(run.tenant, run.run, step)
        if stored is None:
            raise NotFoundError(
                f"step {step!r} of the run {run.run!r} asks nothing",
                hint=f"run `fmos workflow show {run.run}` to see what waits",
            )
        wait = self._own(stored)
        if wait.state != "waiting":
            raise ArgumentError(
                f"step {step!r} of the run {run.run!r} was {wait.state} by {wait.answered_by}",
                hint="start another run to decide anew",
            )
        return stored

    def _own(self, stored: StoredWait) -> Waiting:
        """Return a question that is as it was written; one without a seal has let nothing through.

        Raises:
            FormatError: if it is not.
        """
        if not self._is_own(stored):
            wait = stored.wait
            raise FormatError(
                f"what step {wait.step!r} of the run {wait.run!r} asked, or was answered, was not"
                " written by FMOS, or was changed since, and does not count",
                hint=f"`fmos workflow cancel {wait.run}` undoes the run; then start another",
            )
        return stored.wait if stored.seal else stored.wait.model_copy(update={"consented": ()})

    def _is_own(self, stored: StoredWait) -> bool:
        return not stored.seal or compare_digest(self._seal(stored.wait, stored.level), stored.seal)

    def _sealed(self, wait: Waiting, level: int = 0) -> StoredWait:
        return StoredWait(wait, level, self._seal(wait, level))

    def _seal(self, wait: Waiting, level: int) -> str:
        """Return what only the tenant's key can say of a question and its answer as they are."""
        said = canonical_json([wait.model_dump(mode="json"), level])
        return self._kernel.keys_of(wait.tenant).seal("workflow.wait", said)

    def pending(self, tenant: str | None = None, run: str | None = None) -> list[Waiting]:
        """Return what waits, oldest first."""
        return self._store.waits(tenant, run)

    def _time_out(self, run: Run, stored: StoredWait, now_ns: int) -> bool:
        wait, level, words = self._own(stored), stored.level, run.options.on_timeout
        word = words[level] if level < len(words) else ""
        if word == "deny":
            answer = {"state": "denied", "answered_by": NOBODY, "comment": ""}
            made, answered_ns = self._sealed(wait.model_copy(update=answer), level), now_ns
        else:
            to = word.partition(":")[2] or wait.asked_of
            later = {"asked_of": to, "due_ns": _due(run, now_ns) if word else None}
            made, answered_ns = self._sealed(wait.model_copy(update=later), level + 1), None
        with self._kernel.database.transaction():
            changed = self._store.change(stored, made, answered_ns)
        if changed and word == "deny":
            self._note(wait, "workflow.answer", {"state": "denied", "by": NOBODY})
        elif changed and word:
            self._note(wait, "workflow.escalate", {"to": word.partition(":")[2]})
        return changed

    def _note(self, wait: Waiting, event: str, detail: dict[str, object]) -> None:
        if self._kernel.looking:  # what is out of time is so in the copy that is looked at only
            return
        who = Principal(tenant=wait.tenant, session=wait.run)
        self._kernel.record(who, event, {"run": wait.run, "step": wait.step, **detail})


def expire_waits(kernel: Kernel) -> int:
    """Deny or escalate what people did not answer in time; return how many questions that were."""
    return Waits(kernel, WorkflowStore(kernel.database)).expire()


def _due(run: Run, now_ns: int) -> int | None:
    seconds = run.options.timeout_s
    return None if seconds is None else now_ns + int(seconds * _NS)
