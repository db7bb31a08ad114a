"""`FmosStore`: LangGraph's long-term memory as files on the agent's branch.

Owns how LangGraph's operations become work on items (items.py: their files; catalogue.py: which
there are; ranking.py: full text; matching.py: filters). As items are ordinary files of the branch,
snapshot, fork, restore and merge of the agent take its memory along.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)

from agentfs import AgentFS
from fmos_langgraph.catalogue import Catalogue, Entry
from fmos_langgraph.codec import Codec
from fmos_langgraph.items import Address, ItemFiles, StoredItem, names_for, path_of
from fmos_langgraph.matching import check_filter, matches, select_namespaces
from fmos_langgraph.opening import OnBranch, open_home, open_path, share

_MINUTE_NS = 60 * 10**9
# Reading an item again and again writes its new time only when that moves by this part of it.
_REFRESH_PART = 100
_T = TypeVar("_T")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FmosStore(OnBranch, BaseStore):
    """A LangGraph store over a branch of an agentfs volume.

    Safe to share between threads and event loops, and between processes that open the same file.
    A batch is one transaction, and what it reads is as it was before its puts. `search` with a
    query is full text search (any word, BM25), not by meaning; without one, items updated last
    come first. TTLs are in minutes.
    """

    supports_ttl = True

    def __init__(
        self, fs: AgentFS, *, ttl: TTLConfig | None = None, fields: Sequence[str] = ("$",),
        serde: SerializerProtocol | None = None, clock: Callable[[], int] = time.time_ns,
        owns_fs: bool = False,
    ) -> None:  # fmt: skip
        """Keep items through `fs`, a handle opened with `system=True`.

        `fields` are the paths of values that a query looks at ("$": all text and numbers), where
        `put` gives no `index`. `clock` tells nanoseconds since 1970.
        """
        super().__init__()
        self.ttl_config = ttl
        self._fs = fs
        self._owns_fs = owns_fs
        self._clock = clock
        self._files = ItemFiles(fs, Codec(serde or JsonPlusSerializer()))
        self._catalogue = Catalogue(fs, self._files, tuple(fields))
        self._swept_ns = clock()

    @classmethod
    def from_path(
        cls, path: str | os.PathLike[str], branch: str | None = None, *,
        ttl: TTLConfig | None = None, fields: Sequence[str] = ("$",),
        serde: SerializerProtocol | None = None, **options: Any,
    ) -> FmosStore:  # fmt: skip
        """Open a volume, made when it is missing, and keep items on one of its branches.

        `options` are those of `AgentFS.open`, as `durability="full"`.
        """
        fs = open_path(path, branch, options)
        return cls(fs, ttl=ttl, fields=fields, serde=serde, owns_fs=True)

    @classmethod
    def from_home(
        cls, home: str | os.PathLike[str] | None = None, *, ttl: TTLConfig | None = None,
        fields: Sequence[str] = ("$",), serde: SerializerProtocol | None = None,
    ) -> FmosStore:  # fmt: skip
        """Keep items in `langgraph.afs` of the FMOS home (`$FMOS_HOME`, else `~/.fmos`)."""
        return cls(open_home(home), ttl=ttl, fields=fields, serde=serde, owns_fs=True)

    @classmethod
    def from_fs(
        cls, fs: AgentFS, *, ttl: TTLConfig | None = None, fields: Sequence[str] = ("$",),
        serde: SerializerProtocol | None = None, clock: Callable[[], int] = time.time_ns,
    ) -> FmosStore:  # fmt: skip
        """Keep items on the branch of an open handle, which stays the caller's to close."""
        return cls(share(fs), ttl=ttl, fields=fields, serde=serde, clock=clock)

    # -- batches ----------------------------------------------------------------------------

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do some operations at once: first those that read, then the puts.

        Of puts to one item the last counts; a put of None deletes.

        Raises:
            ValueError: an operation, a filter's operator or a match type is unknown.
        """
        wanted = list(ops)
        puts = {(op.namespace, op.key): op for op in wanted if isinstance(op, PutOp)}
        used: dict[str, StoredItem] = {}
        if puts or self._is_sweep_due():
            with self._fs.transaction():
                if self._is_sweep_due():
                    self._sweep()
                results = self._read(wanted, used)
                self._refresh(used)
                for position, op in enumerate(puts.values()):
                    self._put(op, self._clock() + position)
            return results
        looks = any(isinstance(op, SearchOp | ListNamespacesOp) for op in wanted)
        # The lock first, so that what this thread sees is not older than what the catalogue knows.
        with self._catalogue.lock if looks else nullcontext(), self._fs.reading():
            results = self._read(wanted, used)
        self._refresh(used)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do what `batch` does, on a worker thread."""
        return await asyncio.to_thread(self.batch, list(ops))

    def _read(self, ops: Iterable[Op], used: dict[str, StoredItem]) -> list[Result]:
        """Answer the operations that read; `used` gets the items of which the time begins anew."""
        return [self._answer(op, used) for op in ops]

    def _answer(self, op: Op, used: dict[str, StoredItem]) -> Result:
        if isinstance(op, GetOp):
            return self._get(op, used)
        if isinstance(op, PutOp):
            return None
        with self._catalogue.lock:
            if isinstance(op, SearchOp):
                return self._search(op, used)
            if isinstance(op, ListNamespacesOp):
                return self._list(op)
        raise ValueError(f"unknown operation: {op!r}")

    # -- reading ----------------------------------------------------------------------------

    def _get(self, op: GetOp, used: dict[str, StoredItem]) -> Item | None:
        path = path_of((op.namespace, op.key))
        item = self._files.read(path)
        if item is None or self._is_gone(item):
            return None
        if op.refresh_ttl:
            used[path] = item
        return Item(**self._shown((op.namespace, op.key), item))

    def _search(self, op: SearchOp, used: dict[str, StoredItem]) -> list[SearchItem]:
        check_filter(op.filter)
        catalogue = self._catalogue
        catalogue.follow()
        if op.query:
            candidates = catalogue.ranked(op.namespace_prefix, op.query)
        else:
            candidates = catalogue.newest(op.namespace_prefix)
        found = (
            (entry, item, score)
            for entry, score in candidates
            if not self._is_gone(entry) and self._fits((item := catalogue.item(entry)), op)
        )
        hits = _page(found, op.offset, op.limit)
        if op.refresh_ttl:
            used.update((entry.path, item) for entry, item, _ in hits)
        return [
            SearchItem(**self._shown((entry.namespace, entry.key), item), score=score)
            for entry, item, score in hits
        ]

    def _fits(self, item: StoredItem, op: SearchOp) -> bool:
        return not op.filter or matches(self._files.value(item), op.filter)

    def _list(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        self._catalogue.follow()
        entries = (each for each in self._catalogue.entries() if not self._is_gone(each))
        namespaces = {each.namespace for each in entries}
        found = select_namespaces(namespaces, op.match_conditions, op.max_depth)
        return found[op.offset : op.offset + op.limit]

    def _is_gone(self, item: StoredItem | Entry) -> bool:
        """Return whether an item is not to be shown, as its time is over."""
        omits = (self.ttl_config or {}).get("omit_expired", False)
        return bool(omits) and item.is_expired(self._clock())

    def _shown(self, address: Address, item: StoredItem) -> dict[str, Any]:
        """Return what LangGraph's items are made of."""
        namespace, key = address
        return {
            "namespace": namespace,
            "key": key,
            "value": self._files.value(item),
            "created_at": _to_time(item.created_ns),
            "updated_at": _to_time(item.updated_ns),
        }

    # -- writing ----------------------------------------------------------------------------

    def _put(self, op: PutOp, now_ns: int) -> None:
        address = op.namespace, op.key
        path = path_of(address)
        if op.value is None:
            self._files.remove(path)
            return
        before = self._files.read(path)
        created_ns = now_ns if before is None or self._is_gone(before) else before.created_ns
        expires_ns = None if op.ttl is None else now_ns + _to_ns(op.ttl)
        index = list(op.index) if op.index else op.index
        item = StoredItem(
            self._files.dump(op.value), created_ns, now_ns, op.ttl, expires_ns, index,
            names_for(address),
        )  # fmt: skip
        self._files.write(path, item)

    def _refresh(self, used: dict[str, StoredItem]) -> None:
        """Let the time of items that were read begin anew, where that makes a difference."""
        now_ns = self._clock()
        due = [path for path, item in used.items() if _moves(item, now_ns)]
        if not due or self._fs.read_only:
            return
        with self._fs.transaction():
            for path in due:
                item = self._files.read(path)
                if item is not None and item.ttl_minutes is not None and _moves(item, now_ns):
                    expires_ns = now_ns + _to_ns(item.ttl_minutes)
                    self._files.write(path, replace(item, expires_ns=expires_ns))

    # -- time to live -----------------------------------------------------------------------

    def sweep_ttl(self) -> int:
        """Delete the items whose time is over; return how many."""
        with self._fs.transaction():
            return self._sweep()

    def _sweep(self) -> int:
        now_ns = self._swept_ns = self._clock()
        with self._catalogue.lock:
            self._catalogue.follow()
            paths = [each.path for each in self._catalogue.entries() if each.is_expired(now_ns)]
        for path in paths:
            self._files.remove(path)
        return len(paths)

    def _is_sweep_due(self) -> bool:
        interval = (self.ttl_config or {}).get("sweep_interval_minutes")
        if interval is None or self._fs.read_only:
            return False
        return self._clock() - self._swept_ns >= _to_ns(interval)


def _page(found: Iterable[_T], offset: int, limit: int) -> list[_T]:
    """Return a slice of what is found, looking no further where it counts from the start."""
    if min(offset, limit) < 0:
        return list(found)[offset : offset + limit]
    return list(islice(found, offset, offset + limit))


def _moves(item: StoredItem, now_ns: int) -> bool:
    """Return whether an item's time would end clearly later if it began now."""
    if item.ttl_minutes is None or item.expires_ns is None:
        return False
    ttl_ns = _to_ns(item.ttl_minutes)
    return now_ns + ttl_ns - item.expires_ns > ttl_ns // _REFRESH_PART


def _to_ns(minutes: float) -> int:
    return int(minutes * _MINUTE_NS)


def _to_time(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1000)
