"""What the memory server does: write, search and get, with accounting and journal.

Order of a write: reserve, journal the intent, write, journal the outcome, commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from fmos import telemetry
from fmos.entered.log import Entry
from fmos.entered.store import Place
from fmos.errors import ArgumentError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.types import OperationKind, Principal, checked_id, new_id
from fmos_memory.model import Hit, MemoryItem, MemoryKind, SearchResult
from fmos_memory.store import MemoryStore

MAX_TEXT_BYTES = 2_000_000

_EVENT = "memory.write"
_HIT_CHARACTERS = 4_000
_MAX_TAGS = 32
_MAX_TAG_CHARACTERS = 128


class MemoryService:
    """The memories of all agents of a home."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def write(
        self,
        principal: Principal,
        text: str,
        *,
        namespace: str,
        kind: MemoryKind,
        tags: Sequence[str],
        source: str,
    ) -> MemoryItem:
        """Store a memory on the agent's branch.

        Raises:
            ArgumentError: if the text is empty or too large, or a name cannot be used.
            DeniedError: if the contract or a policy refuses memory writes.
            BudgetExceededError: if the account has no memory writes left.
        """
        item = MemoryItem(
            id=new_id(),
            namespace=checked_id(namespace, "a namespace"),
            kind=kind,
            text=_checked_text(text),
            tags=_checked_tags(tags),
            source=source,
            created_ns=self._kernel.clock.now_ns(),
            labels=self._kernel.entered.labels(principal),
            agent=principal.agent_key,
            session=principal.session,
        )
        given = {"text": text, "namespace": namespace, "kind": kind, "tags": list(tags)}
        with self._governed(principal, item, {**given, "source": source}):
            return self._store(principal).put(item)

    def search(self, principal: Principal, query: str, namespace: str, limit: int) -> SearchResult:
        """Find memories that share words with the query, best first.

        Raises:
            ArgumentError: if the query is empty.
        """
        if not query.strip():
            raise ArgumentError(
                "argument 'query' is empty", hint="give some words of what to look for"
            )
        if namespace:
            checked_id(namespace, "a namespace")
        store = self._known(principal)
        found = list(islice(store.search(query, namespace), limit)) if store else []
        self._entered(principal, [item for item, _ in found], _HIT_CHARACTERS)
        return SearchResult(hits=tuple(_hit(item, score) for item, score in found))

    def get(self, principal: Principal, memory: str) -> MemoryItem:
        """Return one memory in full.

        Raises:
            NotFoundError: if the agent has no memory of that id.
        """
        store = self._known(principal)
        item = store.get(memory) if store else None
        if item is None:
            raise NotFoundError(
                f"agent {principal.agent!r} has no memory {_shown(memory)}",
                hint="find ids with memory_search; a restore also takes back later memories",
            )
        self._entered(principal, [item], None)
        return item

    def _entered(
        self, principal: Principal, items: Sequence[MemoryItem], characters: int | None
    ) -> None:
        """Let what is remembered enter the session with its labels, where these are kept."""
        entered = self._kernel.entered
        if not items or not entered.keeps(principal):
            return
        entered.add(
            principal,
            [
                Entry(
                    "memory",
                    item.text[:characters],
                    source="memory",
                    place=f"{item.namespace} {item.id}",
                    labels=entered.now(
                        item.labels, Place(principal.tenant, item.agent, item.session)
                    ),
                )
                for item in items
            ],
        )

    def _store(self, principal: Principal) -> MemoryStore:
        return MemoryStore(self._kernel.agent_fs(principal))

    def _known(self, principal: Principal) -> MemoryStore | None:
        """Return the agent's memories, or None for an agent that has done nothing yet."""
        fs = self._kernel.known_agent_fs(principal)
        return MemoryStore(fs) if fs is not None else None

    @contextmanager
    def _governed(
        self, principal: Principal, item: MemoryItem, given: Mapping[str, Any]
    ) -> Iterator[None]:
        """Account for the write and journal it: intent before, outcome after.

        The text itself stays out of the journal: history is for ever, a memory is not.
        """
        kernel = self._kernel
        fact = {"memory": item.id, "namespace": item.namespace, "kind": item.kind}
        kernel.permit(principal, OperationKind.MEMORY_WRITE)
        reservation = kernel.reserve(principal, {"memory_writes": 1}, operation=item.id)
        kernel.record(principal, _EVENT, {**fact, "phase": "intent"})
        try:
            yield
        except BaseException as error:
            kernel.record(
                principal, _EVENT, {**fact, "phase": "failed", "error": type(error).__name__}
            )
            kernel.ledger.refund(reservation)
            raise
        call = kernel.recordings.call(
            principal, "memory_write", given, item, operation=item.id, time_ns=item.created_ns
        )
        kernel.record(principal, _EVENT, {**fact, "phase": "done"}, call=call)
        with telemetry.spending(principal, {"memory_writes": 1}):
            kernel.ledger.commit(reservation)


def _hit(item: MemoryItem, score: float) -> Hit:
    kept = item.model_dump(include={"id", "namespace", "kind", "source", "tags", "created_ns"})
    return Hit(**kept, text=item.text[:_HIT_CHARACTERS], score=round(score, 6))


def _checked_text(text: str) -> str:
    if not text.strip():
        raise ArgumentError("argument 'text' is empty", hint="give what is to be remembered")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"argument 'text' is not valid Unicode at character {error.start}",
            hint="replace lone surrogates before writing",
        ) from error
    if size > MAX_TEXT_BYTES:
        raise ArgumentError(
            f"argument 'text' has {size} bytes, more than the {MAX_TEXT_BYTES} of one memory",
            hint="write it to a file and remember its path, or split it",
        )
    return text


def _checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    if len(tags) > _MAX_TAGS or any(len(tag) > _MAX_TAG_CHARACTERS for tag in tags):
        raise ArgumentError(
            f"argument 'tags': at most {_MAX_TAGS} tags of {_MAX_TAG_CHARACTERS} characters each",
            hint="put longer words into the text",
        )
    return tuple(tags)


def _shown(value: str) -> str:
    return repr(value if len(value) <= 80 else value[:77] + "...")
