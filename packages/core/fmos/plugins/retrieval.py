"""Asks retrievers for an agent: within its contract, noted in the journal, with provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agentfs import AgentFS
from fmos.drivers import RETRIEVERS, Drivers, Passage, Retriever
from fmos.errors import ArgumentError, DeniedError, DriverError
from fmos.replay.recording import Call
from fmos.runtime.kernel import Kernel
from fmos.types import OperationKind, Principal, new_id

EVENT = "retrieve.run"
_MAX_HITS = 100
_MAX_QUERY = 4_000


class Retrieval:
    """The retrievers of one home. Thread-safe."""

    def __init__(self, kernel: Kernel, drivers: Drivers | None = None) -> None:
        self._kernel = kernel
        self._drivers = drivers or Drivers(RETRIEVERS, kernel.settings.drivers)
        self._made: dict[str, Retriever] = {}

    def names(self) -> tuple[str, ...]:
        """Return the retrievers that are installed and allowed."""
        return self._drivers.names()

    def search(
        self, who: Principal, query: str, k: int = 8, *, name: str = "files"
    ) -> tuple[Passage, ...]:
        """Return at most `k` passages for a question, best first.

        A passage without source or digest is an error of the retriever; one from a path that the
        agent may not read is left out.

        Raises:
            ArgumentError: if the question is empty or too long.
            DeniedError: if contract or policies deny reading, or this retriever.
            NotFoundError, MissingExtraError, DriverError: if it cannot be used.
        """
        if not query.strip() or len(query) > _MAX_QUERY or not 0 < k <= _MAX_HITS:
            raise ArgumentError(
                f"a question has 1 to {_MAX_QUERY} characters and 1 to {_MAX_HITS} hits",
                hint="shorten it, or ask for less",
            )
        retriever = self._retriever(name)
        self._permit(who, name)
        kernel = self._kernel
        fact = {
            "id": new_id(),
            "retriever": name,
            "query": kernel.keys_of(who.tenant).digest(query.encode("utf-8", "replace")),
        }
        kernel.record(who, EVENT, {**fact, "phase": "intent"})
        try:
            found = self._drivers.run(name, lambda: tuple(retriever.search(query, k, who)))
            kept = self._readable(who, name, found)[:k]
            asked = {"retriever": name, "query": query, "k": k, "found": _shown(found)}
        except BaseException as error:
            kernel.record(who, EVENT, {**fact, "phase": "failed", "error": type(error).__name__})
            raise
        hits = _shown(kept)
        call = Call(EVENT, asked, {"hits": hits}, operation=fact["id"])
        kernel.record(who, EVENT, {**fact, "phase": "outcome", "hits": hits}, call=call)
        return kept

    def again(self, who: Principal, run: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a recorded run gives now: its hits, of which the contract lets through some.

        Raises:
            DeniedError: if contract or policies deny reading, or this retriever.
        """
        name = str(run["retriever"])
        self._permit(who, name)
        found = [Passage("", each["source"], each["digest"]) for each in run["found"]]
        return {"hits": _shown(self._readable(who, name, found)[: int(run["k"])])}

    def _retriever(self, name: str) -> Retriever:
        made = self._made.get(name)
        if made is None:
            made = self._drivers.make(name, self._files)
            if not isinstance(made, Retriever):
                raise DriverError(f"the retriever {name!r} has not both of name and search")
            self._made[name] = made
        return made

    def _files(self, who: Principal) -> AgentFS | None:
        """Return a read-only view of the agent's branch, as the agent may see it."""
        if self._kernel.known_agent_fs(who) is None:
            return None
        return self._kernel.agent_files(who).at(who.branch_name)

    def _permit(self, who: Principal, name: str) -> None:
        self._kernel.permit(who, OperationKind.FS_READ)
        standing = self._kernel.standing(who)
        self._kernel.recordings.standing(standing)
        bounds = standing.mandate.bounds
        label = f"retrieve.{name}"
        if label in bounds.security.deny or bounds.needs_consent(label):
            raise DeniedError(
                f"{label!r} is denied to the agent {who.agent!r}", hint="use another retriever"
            )

    def _readable(self, who: Principal, name: str, found: Iterable[object]) -> tuple[Passage, ...]:
        security = self._kernel.mandate(who).bounds.security
        kept: list[Passage] = []
        for each in found:
            if not isinstance(each, Passage) or not each.source or not each.digest:
                raise DriverError(f"the retriever {name!r} gave a hit without source and digest")
            if not each.source.startswith("/") or security.may_read(each.source):
                kept.append(each)
        return tuple(kept)


def _shown(found: Iterable[Passage]) -> list[dict[str, str]]:
    """Return where hits come from, which is all that journal and recording keep of them."""
    return [{"source": each.source, "digest": each.digest} for each in found]
