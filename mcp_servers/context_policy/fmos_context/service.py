"""What the context server does: open a session, append to it, compose it, read from it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from fmos.entered.labels import UNKNOWN, Labels
from fmos.entered.log import Entry
from fmos.errors import ArgumentError, NotFoundError, PrincipalError
from fmos.replay.recording import composed_summary
from fmos.runtime.kernel import Kernel
from fmos.tokens import TokenCounter, default_counter
from fmos.types import Principal, checked_id, new_id
from fmos_context import handles, offload, window
from fmos_context.model import Appended, Composed, Item, Message, Opened, Role, Session, Span
from fmos_context.store import ItemCache, SessionStore

#: What a message costs beside its text: role and separators.
MESSAGE_TOKENS = 4

#: Room kept for the note on dropped messages, whatever its handle is; it needs about 50.
NOTE_TOKENS = 72

_ITEM_HANDLE = re.compile(r"^p(\d{1,9})-[0-9a-f]{10}$")
_DROPPED_HANDLE = re.compile(r"^d\d{1,9}-[0-9a-f]{10}$")
_ITEM_ID = re.compile(r"^i(\d{1,9})$")


class ContextService:
    """The sessions of all agents of a home."""

    def __init__(self, kernel: Kernel, counter: TokenCounter | None = None) -> None:
        self._kernel = kernel
        self._counter = counter
        self._cache = ItemCache()

    def open(
        self, principal: Principal, *, system: str, max_tokens: int, threshold_bytes: int
    ) -> Opened:
        """Open a session; one that is there keeps its items and gets the new settings.

        Raises:
            DeniedError: if the agent is paused or was killed.
            ArgumentError: if the session id cannot be used, or the system prompt does not fit.
        """
        session = checked_id(principal.session or new_id(), "a session id")
        asked, max_tokens = max_tokens, self._allowed(principal, max_tokens)
        store = self._store(principal, session)
        tokens = self._tokens(system) if _encoded(system, "system") else 0
        if tokens > max_tokens:
            raise ArgumentError(
                f"argument 'system' needs {tokens} tokens, more than max_tokens ({max_tokens})",
                hint=f"shorten it, or set max_tokens to more than {tokens}",
            )
        settings = Session(
            session=session,
            system=system,
            system_tokens=tokens,
            max_tokens=max_tokens,
            threshold_bytes=min(threshold_bytes, offload.HARD_CAP_BYTES),
        )
        if store.load() != settings:
            store.save(settings)
        opened = Opened(
            session=session,
            max_tokens=max_tokens,
            threshold_bytes=settings.threshold_bytes,
            items=store.count(),
        )
        who = principal.model_copy(update={"session": session})
        given = {"system": system, "max_tokens": asked, "threshold_bytes": threshold_bytes}
        recordings = self._kernel.recordings
        recordings.note(who, recordings.call(who, "context_open", given, opened))
        return opened

    def append(
        self,
        principal: Principal,
        text: str,
        *,
        role: Role,
        name: str,
        call_id: str,
        pinned: bool,
    ) -> Appended:
        """Add a text to a session; page it out when the size rule says so.

        Raises:
            DeniedError: if the agent is paused or was killed.
            NotFoundError: if the session is not open.
        """
        self._kernel.require_running(principal)
        store, settings = self._opened(principal)
        data = _encoded(text, "text")
        out = offload.is_paged_out(
            len(data), settings.threshold_bytes, role=role, name=name, pinned=pinned
        )
        own = self._tokens(name) if name else MESSAGE_TOKENS
        raw = own + self._count(text)
        labels = self._labels(principal, text) if role == "tool" else None
        recordings = self._kernel.recordings
        recordings.begin(principal)  # before the transaction: it may look at accounts
        with store.transaction():
            ordinal = store.count()
            handle = offload.handle_for(settings.session, ordinal, data)
            stub = offload.stub_for(data, handle, paged_out=out)
            item = Item(
                ordinal=ordinal,
                role=role,
                name=name,
                call_id=call_id,
                pinned=pinned,
                handle=handle,
                text=None if out else text,
                stub=stub,
                tokens_raw=raw,
                tokens_stub=own + self._count(stub),
                labels=labels,
            )
            store.add(item, data if out else None)
            appended = Appended(
                item=item.id,
                inline=not out,
                handle=handle if out else None,
                text=item.shown,
                tokens=item.tokens_shown,
            )
            said = {"name": name, "call_id": call_id, "pinned": pinned}
            given = {"role": role, "text": text, **said}
            # A text that is shown as it was given is not kept twice.
            answer = appended.model_dump(exclude=None if out else {"text"})
            call = recordings.call(principal, "context_append", given, answer)
            if call is not None:
                recordings.add(principal, call, handle=self._kernel.agent_fs(principal))
        return appended

    def compose(self, principal: Principal, max_tokens: int, chosen: Sequence[str]) -> Composed:
        """Return the messages that fit the budget, the newest in full.

        Raises:
            DeniedError: if the agent is paused or was killed.
            ArgumentError: if the budget is too small for what must be shown.
            NotFoundError: if the session or an item does not exist.
        """
        store, settings = self._opened(principal)
        budget = self._allowed(principal, max_tokens or settings.max_tokens)
        items = _chosen(store, chosen) if chosen else store.all()
        composed = self._composed(store, settings, items, budget)
        shown = {"tokens": composed.tokens, "tokens_raw": composed.tokens_raw, "budget": budget}
        detail = {"session": settings.session, **shown, "dropped": composed.dropped_handle}
        given = {"max_tokens": max_tokens, "items": list(chosen)}
        messages = [vars(message) for message in composed.messages]
        answer = composed_summary({**vars(composed), "messages": messages})
        call = self._kernel.recordings.call(principal, "context_compose", given, answer)
        self._kernel.record(principal, "context.compose", detail, call=call)
        return composed

    def read(
        self, principal: Principal, handle: str, *, offset: int, limit: int, pattern: str
    ) -> Span:
        """Return a span of what a handle stands for, or of its lines that match a pattern.

        Raises:
            NotFoundError: if the session or the handle does not exist.
            PrincipalError: if the handle is of another session.
            ArgumentError: if the offset or the pattern cannot be used.
        """
        store, settings = self._opened(principal)
        text = _resolve(store, handle)
        if text is None:
            raise self._unknown(principal, store, settings.session, handle)
        self._entered(principal, store, handle, text)
        if not pattern:
            return handles.span(text, offset, limit)
        lines = handles.matching_lines(text, pattern)
        return handles.span("\n".join(lines), offset, limit, matches=len(lines))

    def _labels(self, principal: Principal, text: str) -> Labels | None:
        """Return the labels of a tool's output; None where nobody keeps what entered."""
        entered = self._kernel.entered
        if not entered.keeps(principal):
            return None
        return entered.labels_of(principal, "tool", text) or UNKNOWN

    def _entered(self, principal: Principal, store: SessionStore, handle: str, text: str) -> None:
        """Let what is read again enter the session with its labels, unless it has already."""
        match = _ITEM_HANDLE.match(handle)
        item = store.item(int(match[1])) if match else None
        if item is None or item.labels is None:
            return
        entered = self._kernel.entered
        if entered.labels_of(principal, "tool", text) is None:
            entered.add(principal, [Entry("tool", text, source=item.name, labels=item.labels)])

    def _composed(
        self, store: SessionStore, settings: Session, items: Sequence[Item], budget: int
    ) -> Composed:
        units = window.group(items)
        free = budget - settings.system_tokens
        needed = window.required_tokens(units)
        if needed > free:
            least = needed + settings.system_tokens
            raise ArgumentError(
                f"argument 'max_tokens': the context of session {settings.session!r} cannot fit"
                f" {budget} tokens: its system prompt, pinned items and last user message alone"
                f" need {least}",
                hint=f"set max_tokens to {least} or more, or pin less",
            )
        raw = settings.system_tokens + sum(item.tokens_raw for item in items)
        if sum(unit.whole for unit in units) <= free:
            chosen = window.everything(units)
            return self._result(settings, items, chosen, raw=raw, note="", handle=None)
        noted = free - needed >= NOTE_TOKENS
        chosen = window.choose(units, free - NOTE_TOKENS if noted else free)
        if not chosen.dropped:
            return self._result(settings, items, chosen, raw=raw, note="", handle=None)
        handle = _dropped_handle(settings.session, chosen.dropped)
        store.save_dropped(handle, chosen.dropped)
        note = _note(len(chosen.dropped), handle) if noted else ""
        return self._result(settings, items, chosen, raw=raw, note=note, handle=handle)

    def _result(
        self,
        settings: Session,
        items: Sequence[Item],
        chosen: window.Window,
        *,
        raw: int,
        note: str,
        handle: str | None,
    ) -> Composed:
        messages: list[Message] = []
        tokens = settings.system_tokens
        if settings.system:
            messages.append(Message(item="system", role="system", text=settings.system))
        note_tokens = self._tokens(note) if note else 0
        if 0 < note_tokens <= NOTE_TOKENS:
            messages.append(Message(item="dropped", role="system", text=note))
            tokens += note_tokens
        for item in items:
            if item.ordinal in chosen.whole:
                messages.append(item.as_shown)
                tokens += item.tokens_shown
            elif item.ordinal in chosen.reduced:
                messages.append(item.as_stub)
                tokens += item.tokens_stub
        return Composed(
            messages=tuple(messages), tokens=tokens, tokens_raw=raw, dropped_handle=handle
        )

    def _allowed(self, principal: Principal, max_tokens: int) -> int:
        """Return the budget that the agent's contract leaves of the one asked for."""
        standing = self._kernel.acting(principal)
        if principal.session:
            self._kernel.recordings.standing(standing)
        contract = standing.mandate.contract
        limit = contract.modelPolicy.max_context_tokens if contract else None
        return max_tokens if limit is None else min(max_tokens, limit)

    def _count(self, text: str) -> int:
        if self._counter is None:
            self._counter = default_counter()
        return self._counter.count(text)

    def _tokens(self, text: str) -> int:
        return MESSAGE_TOKENS + self._count(text)

    def _store(self, principal: Principal, session: str) -> SessionStore:
        fs = self._kernel.agent_fs(principal)
        return SessionStore(fs, principal.tenant, session, self._cache)

    def _known(self, principal: Principal) -> SessionStore | None:
        fs = self._kernel.known_agent_fs(principal)
        session = checked_id(principal.session, "a session id")
        return SessionStore(fs, principal.tenant, session, self._cache) if fs else None

    def _opened(self, principal: Principal) -> tuple[SessionStore, Session]:
        if not principal.session:
            raise ArgumentError(
                "argument 'session' is missing",
                hint="give the id that context_open returned, or set FMOS_SESSION at the start",
            )
        store = self._known(principal)
        settings = store.load() if store else None
        if store is None or settings is None:
            raise NotFoundError(
                f"agent {principal.agent!r} has no context session {principal.session!r}",
                hint="open it with context_open",
            )
        return store, settings

    def _unknown(
        self, principal: Principal, store: SessionStore, session: str, handle: str
    ) -> PrincipalError | NotFoundError:
        for other in store.others():
            if _resolve(self._store(principal, other), handle) is not None:
                return PrincipalError(
                    f"handle {handle!r} is of another session and cannot be read in {session!r}",
                    hint="read it in the session whose context it came from",
                )
        return NotFoundError(
            f"session {session!r} has no handle {handle[:80]!r}",
            hint="take the handle from a stub or a context_append result of this session",
        )


def _note(count: int, handle: str) -> str:
    return (
        f"[{count} earlier messages are not shown;"
        f' context_read(handle="{handle}", offset=0) returns them]'
    )


def _dropped_handle(session: str, ordinals: Sequence[int]) -> str:
    digest = hashlib.sha256(f"{session}\0{list(ordinals)}".encode()).hexdigest()
    return f"d{ordinals[0]}-{digest[:10]}"


def _chosen(store: SessionStore, ids: Sequence[str]) -> list[Item]:
    items: dict[int, Item] = {}
    for name in ids:
        match = _ITEM_ID.match(name)
        item = store.item(int(match[1])) if match else None
        if item is None:
            raise NotFoundError(
                f"the session has no item {name[:80]!r}",
                hint="use the ids that context_append returned",
            )
        items[item.ordinal] = item
    return [items[ordinal] for ordinal in sorted(items)]


def _resolve(store: SessionStore, handle: str) -> str | None:
    """Return the text a handle stands for in the store's session, or None."""
    match = _ITEM_HANDLE.match(handle)
    if match:
        item = store.item(int(match[1]))
        return store.text(item) if item is not None and item.handle == handle else None
    ordinals = store.dropped(handle) if _DROPPED_HANDLE.match(handle) else None
    if ordinals is None:
        return None
    items = (store.item(ordinal) for ordinal in ordinals)
    return "\n\n".join(_listed(item) for item in items if item is not None)


def _listed(item: Item) -> str:
    who = f"{item.role} {item.name}" if item.name else item.role
    return f"[{item.id} {who}, handle {item.handle}]\n{item.shown}"


def _encoded(text: str, argument: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"argument {argument!r} is not valid Unicode at character {error.start}",
            hint="replace lone surrogates first",
        ) from error
