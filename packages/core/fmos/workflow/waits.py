"""What runs ask of people: one question for each step, with a time-out that escalates or denies.

The answering is a person's door (`fmos workflow answer`). No tool of a server reaches it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fmos.errors import ArgumentError, DeniedError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos.workflow.model import Run, Waiting, WaitKind
from fmos.workflow.store import WorkflowStore

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
        """
        now_ns = self._kernel.clock.now_ns()
        known = self._store.wait(run.tenant, run.run, step)
        if known is not None:
            return self._about_more(run, known[0], about, now_ns)
        wait = Waiting(
            tenant=run.tenant, run=run.run, step=step, kind=kind, about=tuple(about),
            asked_ns=now_ns, due_ns=_due(run, now_ns),
        )  # fmt: skip
        with self._kernel.database.transaction():
            new = self._store.add_wait(wait)
        if new:
            self._note(wait, "workflow.wait", {"kind": kind, "about": list(about)})
        return wait

    def _about_more(self, run: Run, known: Waiting, about: Sequence[str], now_ns: int) -> Waiting:
        """Return a question as it is, or ask about what an approved consent does not cover."""
        given = (*known.consented, *known.about)
        more = tuple(each for each in about if each not in given)
        if known.kind != "consent" or known.state != "approved" or not more:
            return known
        wait = Waiting(
            tenant=run.tenant, run=run.run, step=known.step, kind=known.kind, about=more,
            consented=given, asked_ns=now_ns, due_ns=_due(run, now_ns),
        )  # fmt: skip
        with self._kernel.database.transaction():
            new = self._store.ask_anew(wait)
        if new:
            self._note(wait, "workflow.wait", {"kind": wait.kind, "about": list(more)})
        return wait

    def expire(self) -> int:
        """Deny or escalate what nobody answered in time; return how many questions that were."""
        now_ns = self._kernel.clock.now_ns()
        count = 0
        for wait, level in self._store.due(now_ns):
            stored = self._store.get(wait.tenant, wait.run)
            if stored is not None:
                count += self._time_out(stored.run, wait, level, now_ns)
        return count

    def answer(self, run: Run, step: str, approve: bool, *, by: str, comment: str = "") -> Waiting:
        """Answer a question, once.

        Raises:
            NotFoundError: if the step asks nothing.
            ArgumentError: if it was answered before.
            DeniedError: if the run wants another person than the one who started it.
        """
        self.expire()
        known = self._store.wait(run.tenant, run.run, step)
        if known is None:
            raise NotFoundError(
                f"step {step!r} of the run {run.run!r} asks nothing",
                hint=f"run `fmos workflow show {run.run}` to see what waits",
            )
        wait = known[0]
        if approve and run.options.four_eyes and by == run.requested_by:
            raise DeniedError(
                f"{by} started the run {run.run!r} and cannot approve its steps",
                hint="let somebody else answer",
            )
        state = "approved" if approve else "denied"
        now_ns = self._kernel.clock.now_ns()
        with self._kernel.database.transaction():
            answered = self._store.answer(wait, state, by, comment, now_ns)
        if not answered:
            raise ArgumentError(
                f"step {step!r} of the run {run.run!r} was {wait.state} by {wait.answered_by}",
                hint="start another run to decide anew",
            )
        self._note(wait, "workflow.answer", {"state": state, "by": by})
        return wait.model_copy(update={"state": state, "answered_by": by, "comment": comment})

    def pending(self, tenant: str | None = None, run: str | None = None) -> list[Waiting]:
        """Return what waits, oldest first."""
        return self._store.waits(tenant, run)

    def _time_out(self, run: Run, wait: Waiting, level: int, now_ns: int) -> bool:
        words = run.options.on_timeout
        word = words[level] if level < len(words) else ""
        with self._kernel.database.transaction():
            if word == "deny":
                changed = self._store.answer(wait, "denied", NOBODY, "", now_ns)
            else:
                to = word.partition(":")[2] or wait.asked_of
                due_ns = _due(run, now_ns) if word else None
                changed = self._store.escalate(wait, to, due_ns)
        if changed and word == "deny":
            self._note(wait, "workflow.answer", {"state": "denied", "by": NOBODY})
        elif changed and word:
            self._note(wait, "workflow.escalate", {"to": word.partition(":")[2]})
        return changed

    def _note(self, wait: Waiting, event: str, detail: dict[str, object]) -> None:
        who = Principal(tenant=wait.tenant, session=wait.run)
        self._kernel.record(who, event, {"run": wait.run, "step": wait.step, **detail})


def expire_waits(kernel: Kernel) -> int:
    """Deny or escalate what people did not answer in time; return how many questions that were."""
    return Waits(kernel, WorkflowStore(kernel.database)).expire()


def _due(run: Run, now_ns: int) -> int | None:
    seconds = run.options.timeout_s
    return None if seconds is None else now_ns + int(seconds * _NS)
