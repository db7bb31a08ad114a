"""Keeps one tenant from taking an organisation's whole window while others are refused theirs.

A tenant may use all of a window that nobody else wants. Who was refused in this window or the one
before is known to want more: then nobody gets above its weighted max-min share of the limit, unless
what is left covers what the others may still ask for. Their claims shrink as the window passes, so
that nothing is left over for a tenant that does not come back.
"""

from __future__ import annotations

from collections.abc import Mapping

from fmos.ledger.book import Book, Refusal
from fmos.ledger.fairness import max_min
from fmos.ledger.store import Child, Demand, LedgerStore, Line
from fmos.ledger.windows import end_of, start_of


class Contention:
    """What tenants want of the rate limits of their organisation."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    def refusal(self, book: Book, amounts: Mapping[str, int]) -> Refusal | None:
        """Return why a tenant has had its share for now, or None."""
        for line in _shared(book):
            wanted = self._wanted(line, book.ids[1])
            if not wanted:
                continue
            left = self._left(book, line, wanted)
            if amounts[line.resource] > left:
                return Refusal(line, book.payer.path[1], amounts[line.resource], left, fair=True)
        return None

    def note(self, book: Book, refused: Refusal) -> None:
        """Note that a tenant was refused at its organisation's window. Expects a transaction."""
        line = refused.line
        if len(book.ids) < 2 or line.account != book.ids[0] or line.window == "total":
            return
        tenant = book.ids[1]
        known = {demand.account: demand for demand in self._store.demands(line)}.get(tenant)
        before = _of_window_before(line, known)
        sofar = known.refused if known and known.start_ns == line.start_ns else 0
        total = min(sofar + refused.asked, line.cap or 0)
        used = {child.account: child.used for child in self._store.children(line)}.get(tenant, 0)
        demand = Demand(tenant, line.start_ns, total, used + total, before)
        self._store.put_demand(line, demand)

    def _wanted(self, line: Line, but: int) -> dict[int, int]:
        """Return what each other tenant is expected to want of the window."""
        found: dict[int, int] = {}
        for demand in self._store.demands(line):
            wanted = _of_window_before(line, demand)
            if demand.start_ns == line.start_ns:
                wanted = max(wanted, demand.wanted)
            if wanted and demand.account != but:
                found[demand.account] = wanted
        return found

    def _left(self, book: Book, line: Line, wanted: Mapping[int, int]) -> int:
        tenant, cap = book.ids[1], line.cap or 0
        children = {child.account: child for child in self._store.children(line)}
        demands = {each: max(child.used, wanted.get(each, 0)) for each, child in children.items()}
        demands[tenant] = cap
        weights = {each: child.weight for each, child in children.items()}
        shares = max_min(cap, demands, weights)
        ahead = _part_ahead(line, book.now_ns)
        claimed = sum(
            _claim(children[each], shares[each], amount * ahead) for each, amount in wanted.items()
        )
        idle = cap - line.reserved - line.spent - claimed
        return max(0, int(max(shares[tenant] - children[tenant].used, idle)))


def _shared(book: Book) -> list[Line]:
    if len(book.ids) < 2:
        return []
    return [line for line in book.rates if line.account == book.ids[0] and line.cap is not None]


def _claim(child: Child, share: float, ahead: float) -> int:
    """Return what is kept for a tenant, in whole units: less than one is no use to it."""
    return max(0, int(min(share - child.used, ahead)))


def _of_window_before(line: Line, demand: Demand | None) -> int:
    """Return what a tenant wanted of the window before the line's."""
    if demand is None:
        return 0
    if demand.start_ns == line.start_ns:
        return demand.before
    before = start_of(line.window, line.start_ns - 1)
    return demand.wanted if demand.start_ns == before else 0


def _part_ahead(line: Line, now_ns: int) -> float:
    end = end_of(line.window, line.start_ns)
    return (end - now_ns) / (end - line.start_ns) if end else 0.0
