"""The life of artefacts: propose, evaluate, canary, accept or reject, roll back, freeze.

Each change is one transaction of the tenant's volume, journal row included: a process that is
killed leaves all of it or nothing, and of two that decide at once the second sees the first.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from agentfs.errors import BranchNotFound, MergeConflict
from fmos.drivers import Drivers
from fmos.errors import ArgumentError, DeniedError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.versions.content import check_content, check_names, version_id
from fmos.versions.evaluation import evaluated
from fmos.versions.gate import OPEN, not_passed, require_new, require_override, without_drift
from fmos.versions.metrics import (
    PLUGINS,
    USUAL,
    Metric,
    better_of,
    is_observed,
    metrics_of,
    offline,
)
from fmos.versions.model import (
    Better,
    Canary,
    Candidate,
    Evaluation,
    Freeze,
    Register,
    Served,
    Status,
)
from fmos.versions.people import checked_actor, require_other, require_person
from fmos.versions.reading import VersionReader
from fmos.versions.store import VersionStore
from fmos.versions.traces import Traces


class Versions(VersionReader):
    """The versions of one home's artefacts, and every decision on them.

    Thread-safe; any number of processes may decide.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self._plugins = Drivers(PLUGINS, kernel.settings.drivers)

    # -- proposing and judging ---------------------------------------------------------------

    def propose(
        self,
        tenant: str,
        kind: str,
        name: str,
        content: bytes,
        *,
        author: str,
        why: str,
        metric: str = "",
        better: Better | None = None,
    ) -> Candidate:
        """Make a candidate: a fork of the template branch that holds the content.

        The same content proposed again is the same candidate, with one author more; what was
        rejected or taken back becomes a candidate anew.

        Args:
            tenant: Whose artefact it is.
            kind: Such as `policy`, `prompt` or `trap_model`.
            name: The artefact's name among its kind.
            content: What the artefact would be.
            author: Who proposes it: `user:NAME`, `token:SUBJECT` or `agent:ID`.
            why: What it should improve.
            metric: What it is judged by, offline and as a canary; empty: the kind's own.
            better: Whether a `higher` or `lower` metric is better; None: as the metric says.

        Raises:
            ArgumentError: if a name is not one, or this content is or was accepted.
            ContractError, FormatError: if the content is not what the kind needs.
        """
        check_names(kind, name)
        checked_actor(author)
        check_content(tenant, kind, content)
        _require_reason(why)
        metric = metric or metrics_of(kind)[0]
        direction = better or better_of(metric)
        store, identifier = self._store(tenant), version_id(content)
        with store.volume.transaction():
            served = store.register().of(f"{kind}/{name}")
            known = store.candidate(kind, name, identifier)
            candidate = Candidate(
                tenant=tenant, kind=kind, name=name, id=identifier, size=len(content),
                authors=_with(known, author), why=why, metric=metric, better=direction,
                base=served.accepted, proposed_ns=self._kernel.clock.now_ns(),
            )  # fmt: skip
            if known is not None and known.status in OPEN:
                candidate = known.model_copy(update={"authors": _with(known, author)})
            else:
                require_new(known)
                self._fork(store, candidate, content)
            store.put_candidate(candidate)
            self._note(store, "propose", candidate, by=author, why=why, metric=metric)
        return candidate

    def evaluate(
        self, candidate: Candidate, traces: Traces, *, by: str, metric: Metric | None = None
    ) -> Evaluation:
        """Compare a candidate with what is accepted, on the same held-out traces; keep the result.

        What passes must not be worse than the first version that was accepted either: many steps
        that are each too small to show must not lead away from it.

        Args:
            candidate: What is judged.
            traces: Recorded sessions: `fmos.versions.traces`.
            by: Who asks.
            metric: What judges; None: the one that the candidate names, of those of its kind.

        Raises:
            ArgumentError: if nothing can compute the metric offline.
            NotFoundError: if the candidate is gone.
        """
        checked_actor(by)
        store = self._store(candidate.tenant)
        current = self._found(store, *_names(candidate), candidate.id)
        served = store.register().of(candidate.key)
        chosen = metric or offline(current.kind, current.metric, self._plugins)
        content = self.content(current)

        def against(version: str) -> Evaluation:
            known = self._found(store, *_names(current), version) if version else None
            before = self.content(known) if known else None
            return evaluated(current, before, content, traces, self._settings, chosen)

        found = against(served.accepted)
        if found.outcome == "passed" and served.history:
            found = without_drift(found, against(served.history[0]), served.history[0])
        now_ns = self._kernel.clock.now_ns()
        found = found.model_copy(update={"by": by, "base": served.accepted, "at_ns": now_ns})
        with store.volume.transaction():
            current = self._found(store, *_names(candidate), candidate.id)
            store.put_candidate(current.model_copy(update={"evaluation": found}))
            detail = found.model_dump(mode="json", exclude={"by", "at_ns"})
            self._note(store, "evaluate", current, by=by, **detail)
        return found

    # -- deciding ----------------------------------------------------------------------------

    def canary(
        self,
        candidate: Candidate,
        share: float,
        *,
        by: str,
        metric: str = "",
        better: Better | None = None,
        override: str = "",
    ) -> Candidate:
        """Give a candidate to a share of the sessions, by the same rule as a catalogue's canaries.

        Args:
            candidate: What is tried; it takes the place of a canary of the same artefact.
            share: Above 0, below 1: the other sessions are the control.
            by: The person who says so.
            metric: What its sessions are watched by; empty: the candidate's, or the share of calls
                that fail where that can only be computed on recorded sessions.
            better: Whether a `higher` or `lower` one is better; None: as the metric says.
            override: Why a candidate is tried though it did worse on held-out traces.

        Raises:
            DeniedError: if `by` is no person, the artefact is frozen, or the candidate regressed.
            ArgumentError: if the share is none, or the candidate is no longer open.
        """
        require_person(by, "start a canary")
        if not 0 < share < 1:
            raise ArgumentError(
                f"{share} is no share of the sessions",
                hint="give one above 0 and below 1, such as 0.05: without a control nothing can be"
                " compared",
            )
        store = self._store(candidate.tenant)
        with store.volume.transaction():
            current, register, served = self._open(store, candidate)
            if current.evaluation is not None and current.evaluation.outcome == "regressed":
                require_override(current, override, current.evaluation.why)
            served = self._without_canary(store, current.key, served, by, "another canary began")
            watched, direction = _watched(current, metric, better)
            detail = {"share": share, "metric": watched, "better": direction, "override": override}
            seq = self._note(store, "canary", current, by=by, **detail)
            begun = Canary(
                id=current.id, share=share, metric=watched, better=direction,
                since_seq=seq, started_ns=self._kernel.clock.now_ns(), by=by,
            )  # fmt: skip
            changed = current.model_copy(update={"status": Status.CANARY})
            store.put_candidate(changed)
            served = served.model_copy(update={"canary": begun})
            store.put_register(register.with_served(current.key, served))
        self._kernel.policies.look_again(candidate.tenant)
        self._kernel.trust_policies.look_again(candidate.tenant)
        return changed

    def accept(self, candidate: Candidate, *, by: str, override: str = "") -> Candidate:
        """Let every session get a candidate: merge its branch into the template branch.

        Args:
            candidate: What is accepted.
            by: The person who says so; not an author, unless the home allows that.
            override: Why it is accepted though no evaluation passed against what is served now.

        Raises:
            DeniedError: if `by` may not, the artefact is frozen, or the evaluation did not pass.
            ArgumentError: if it is no longer open, or another version was accepted since.
        """
        require_person(by, "accept a version")
        store = self._store(candidate.tenant)
        with store.volume.transaction():
            current, register, served = self._open(store, candidate)
            if not self._settings.self_accept:
                require_other(current, by, "accept")
            problem = not_passed(current, served.accepted)
            if problem:
                require_override(current, override, problem)
            _merge(store, current)
            changed = current.model_copy(update={"status": Status.ACCEPTED, "accepted_by": by})
            store.put_candidate(changed)
            if served.canary is not None and served.canary.id != current.id:
                why = f"{current.id[:12]} was accepted"
                served = self._without_canary(store, current.key, served, by, why)
            self._retire(store, current, served.accepted, Status.SUPERSEDED)
            past = (*served.history, served.accepted) if served.accepted else served.history
            after = Served(accepted=current.id, history=past)
            store.put_register(register.with_served(current.key, after))
            detail = {"before": served.accepted, "override": override if problem else ""}
            self._note(store, "accept", changed, by=by, authors=list(current.authors), **detail)
        self._kernel.policies.look_again(candidate.tenant)
        self._kernel.trust_policies.look_again(candidate.tenant)
        return changed

    def reject(self, candidate: Candidate, *, by: str, why: str) -> Candidate:
        """Say no to a candidate; its branch and record stay.

        Raises:
            DeniedError: if `by` is no person.
            ArgumentError: if it is no longer open, or there is no reason.
        """
        require_person(by, "reject a version")
        _require_reason(why)
        store = self._store(candidate.tenant)
        with store.volume.transaction():
            current, register, served = self._open(store, candidate, frozen_too=True)
            changed = current.model_copy(update={"status": Status.REJECTED})
            store.put_candidate(changed)
            if served.canary is not None and served.canary.id == current.id:
                served = served.model_copy(update={"canary": None})
                store.put_register(register.with_served(current.key, served))
            self._note(store, "reject", changed, by=by, why=why)
        return changed

    def rollback(
        self, tenant: str, kind: str, name: str, *, by: str, why: str, to: str = ""
    ) -> str:
        """Take back what was changed last, and return the id of what is served then.

        That is the canary where one runs, and else the accepted version: the artefact's path is
        restored from the branch of an earlier one. `to` names an earlier version itself.

        Raises:
            DeniedError: if `by` is no person, or the artefact is frozen.
            NotFoundError: if there is nothing to take back, or no such version.
            ArgumentError: if `to` was never accepted, or was taken back itself.
        """
        require_person(by, "roll a version back")
        _require_reason(why)
        store = self._store(tenant)
        with store.volume.transaction():
            key, register = f"{kind}/{name}", store.register()
            self._require_thawed(register, key)
            served = register.of(key)
            if served.canary is not None and not to:
                self.take_back(tenant, key, served.canary.id, by=by, why=why)
                return served.accepted
            if not served.accepted:
                raise NotFoundError(
                    f"nothing is accepted of {key!r}, so there is nothing to take back",
                    hint="see `fmos versions list`",
                )
            target = self._target(store, served, kind, name, to)
            return self._restored(store, register, key, target, by, why)

    def take_back(
        self, tenant: str, key: str, identifier: str, *, by: str, why: str, **figures: Any
    ) -> bool:
        """End a canary for good, if it still is this one; return whether it was.

        Its sessions get the accepted version at their next question.
        """
        store = self._store(tenant)
        with store.volume.transaction():
            register = store.register()
            served = register.of(key)
            if served.canary is None or served.canary.id != identifier:
                return False
            kind, _, name = key.partition("/")
            current = self._found(store, kind, name, identifier)
            store.put_candidate(current.model_copy(update={"status": Status.REVERTED}))
            after = served.model_copy(update={"canary": None})
            store.put_register(register.with_served(key, after))
            to = served.accepted
            self._note(store, "rollback", current, by=by, why=why, to=to, canary=True, **figures)
        return True

    def freeze(
        self, tenant: str, kind: str = "", name: str = "", *, by: str, why: str
    ) -> dict[str, str]:
        """Hold artefacts as they are and return their versions by kind/name.

        Of one artefact, of a kind, or of the whole tenant: canaries end, and nothing is accepted
        or rolled back until somebody thaws it.

        Raises:
            DeniedError: if `by` is no person.
            FormatError: if what is accepted was changed by other means.
        """
        require_person(by, "freeze versions")
        _require_reason(why)
        store, scope = self._store(tenant), _scope(kind, name)
        with store.volume.transaction():
            register = store.register()
            pinned: dict[str, str] = {}
            for key, served in register.artefacts.items():
                if scope in ("", kind_of(key), key):
                    after = self._without_canary(store, key, served, by, f"frozen: {why}")
                    register = register.with_served(key, after)
                    self._serving.check(store, key, after.accepted)
                    pinned[key] = after.accepted
            freeze = Freeze(by=by, why=why, at_ns=self._kernel.clock.now_ns())
            frozen = {**register.frozen, scope: freeze}
            store.put_register(register.model_copy(update={"frozen": frozen}))
            detail = {"kind": kind, "name": name, "by": by, "why": why, "pinned": pinned}
            store.volume.record("version.freeze", detail)
        return pinned

    def unfreeze(self, tenant: str, kind: str = "", name: str = "", *, by: str, why: str) -> None:
        """Let versions change again.

        Raises:
            DeniedError: if `by` is no person.
            NotFoundError: if exactly this is not frozen.
        """
        require_person(by, "unfreeze versions")
        _require_reason(why)
        store, scope = self._store(tenant), _scope(kind, name)
        with store.volume.transaction():
            register = store.register()
            if scope not in register.frozen:
                held = ", ".join(each or "everything" for each in register.frozen) or "nothing"
                raise NotFoundError(
                    f"{scope or 'everything'!r} is not frozen in the tenant {tenant!r}",
                    hint=f"frozen is: {held}",
                )
            frozen = {each: how for each, how in register.frozen.items() if each != scope}
            store.put_register(register.model_copy(update={"frozen": frozen}))
            detail = {"kind": kind, "name": name, "by": by, "why": why}
            store.volume.record("version.unfreeze", detail)

    # -- inside ------------------------------------------------------------------------------

    def _open(
        self, store: VersionStore, candidate: Candidate, *, frozen_too: bool = False
    ) -> tuple[Candidate, Register, Served]:
        """Return a candidate as it is now, with what is served; refuse one that was decided."""
        current = self._found(store, *_names(candidate), candidate.id)
        register = store.register()
        if not frozen_too:
            self._require_thawed(register, current.key)
        if current.status not in OPEN:
            by = f" by {current.accepted_by}" if current.accepted_by else ""
            raise ArgumentError(
                f"{current.label} is {current.status.value}{by}, no longer a candidate",
                hint=f"see `fmos versions show {current.kind} {current.name}`",
            )
        return current, register, register.of(current.key)

    def _require_thawed(self, register: Register, key: str) -> None:
        if not self._serving.is_frozen(register, key):
            return
        freeze = register.freeze_of(key)
        if freeze is None:
            said = "`[versions] frozen = true` in fmos.toml says"
            raise DeniedError(f"{key!r} is frozen, as {said}", hint="take that line out")
        raise DeniedError(
            f"{key!r} is frozen by {freeze.by} ({freeze.why})",
            hint="`fmos versions unfreeze` lets it change again",
        )

    def _fork(self, store: VersionStore, candidate: Candidate, content: bytes) -> None:
        with suppress(BranchNotFound):  # of the same content, taken back before
            store.volume.delete_branch(candidate.branch)
        branch = store.volume.fork(candidate.branch)
        branch.mkdir(candidate.path.rpartition("/")[0], parents=True, exist_ok=True)
        branch.write(candidate.path, content)

    def _without_canary(
        self, store: VersionStore, key: str, served: Served, by: str, why: str
    ) -> Served:
        """End the canary of an artefact without a word on how it did."""
        if served.canary is None:
            return served
        kind, _, name = key.partition("/")
        current = self._found(store, kind, name, served.canary.id)
        store.put_candidate(current.model_copy(update={"status": Status.CANDIDATE}))
        self._note(store, "canary", current, by=by, share=0.0, why=why)
        return served.model_copy(update={"canary": None})

    def _retire(
        self, store: VersionStore, candidate: Candidate, identifier: str, status: Status
    ) -> None:
        known = store.candidate(*_names(candidate), identifier) if identifier else None
        if known is not None:
            store.put_candidate(known.model_copy(update={"status": status}))

    def _target(
        self, store: VersionStore, served: Served, kind: str, name: str, to: str
    ) -> Candidate | None:
        """Return the earlier version that is served again; None: there is none before this."""
        if not to:
            return self._found(store, kind, name, served.history[-1]) if served.history else None
        found = self._found(store, kind, name, to)
        if found.id == served.accepted or found.status is Status.SUPERSEDED:
            return found
        raise ArgumentError(
            f"{found.label} is {found.status.value}, not a version that was accepted before",
            hint="propose it again and let somebody accept it",
        )

    def _restored(
        self,
        store: VersionStore,
        register: Register,
        key: str,
        target: Candidate | None,
        by: str,
        why: str,
    ) -> str:
        kind, _, name = key.partition("/")
        served = self._without_canary(store, key, register.of(key), by, f"rolled back: {why}")
        before = self._found(store, kind, name, served.accepted)
        if target is None:
            store.volume.remove(before.path)
        else:
            self.content(target)  # it is still there
            store.volume.restore(target.branch, paths=[target.path])
            self._serving.check(store, key, target.id)
        to = target.id if target else ""
        if to != served.accepted:
            store.put_candidate(before.model_copy(update={"status": Status.REVERTED}))
        if target is not None:
            store.put_candidate(target.model_copy(update={"status": Status.ACCEPTED}))
        past = served.history
        past = past[: past.index(to)] if to in past else past if to == served.accepted else ()
        after = served.model_copy(update={"accepted": to, "history": past})
        store.put_register(register.with_served(key, after))
        self._note(store, "rollback", before, by=by, why=why, to=to, canary=False)
        return to

    def _note(self, store: VersionStore, event: str, candidate: Candidate, **detail: Any) -> int:
        fact = {"kind": candidate.kind, "name": candidate.name, "version": candidate.id}
        return store.volume.record(f"version.{event}", fact | detail)


def _names(candidate: Candidate) -> tuple[str, str]:
    return candidate.kind, candidate.name


def _with(known: Candidate | None, author: str) -> tuple[str, ...]:
    """Return everybody who proposed this content, each once."""
    return tuple(dict.fromkeys((*(known.authors if known else ()), author)))


def _scope(kind: str, name: str) -> str:
    """Return what a freeze holds: all, a kind, or one artefact."""
    if name and not kind:
        raise ArgumentError(
            f"of which kind is the artefact {name!r}?", hint="give the kind before the name"
        )
    if kind:
        check_names(kind, name or "any")
    return f"{kind}/{name}" if name else kind


def kind_of(key: str) -> str:
    """Return the kind in `kind/name`."""
    return key.partition("/")[0]


def _watched(candidate: Candidate, metric: str, better: Better | None) -> tuple[str, Better]:
    """Return what a canary's sessions are compared by, and which way is better."""
    if metric:
        return metric, better or better_of(metric)
    if is_observed(candidate.metric):
        return candidate.metric, better or candidate.better
    return USUAL, better_of(USUAL)


def _require_reason(why: str) -> None:
    if not why.strip():
        raise ArgumentError("a reason is missing", hint="say why: it is kept in the decision log")


def _merge(store: VersionStore, candidate: Candidate) -> None:
    """Bring a candidate's file into the template branch.

    Raises:
        ArgumentError: if the artefact changed there since the candidate was proposed.
    """
    try:
        changes = store.volume.merge(candidate.branch).changes
        merged = store.volume.read(candidate.path)
    except MergeConflict as error:
        raise ArgumentError(
            f"{candidate.label} was made from another version than the one that is accepted now",
            hint="reject it and propose it again, so that it is judged against that",
        ) from error
    others = [each.path for each in changes if not f"{candidate.path}/".startswith(f"{each.path}/")]
    if version_id(merged) != candidate.id or others:
        raise ArgumentError(
            f"the branch {candidate.branch!r} holds other content than was proposed"
            f"{f', such as {others[0]!r}' if others else ''}",
            hint="reject it, and propose the content again",
        )
