"""Access rules: which principal may read or write at and below a path, and the only check of it.

The longest prefix wins; of two rules for one prefix, the one that names the principal beats `*`.
Where no rule matches, everything is allowed. Handles opened with `system` are not bound by rules.
`directories` calls this for every path that is resolved and every name that is changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .connection import Execute
from .errors import PermissionDenied
from .paths import LINKS_PATH, is_inside, split
from .types import Access, AccessRule, Change

if TYPE_CHECKING:
    from .nodes import View

ANYBODY = "*"
LEVELS: dict[Access, int] = {"none": 0, "read": 1, "write": 2}
_READ, _WRITE = LEVELS["read"], LEVELS["write"]
_RULES = "SELECT prefix, principal, access FROM access_rule ORDER BY prefix, principal"


class Rules:
    """All rules of a volume, as one session read them."""

    def __init__(self, rules: list[AccessRule]) -> None:
        """Keep the rules, and what they mean for each principal once somebody asks."""
        self.rules = rules
        self._by_principal: dict[str, Limits | None] = {}

    def of(self, principal: str) -> Limits | None:
        """Return what binds a principal, or None when nothing does."""
        try:
            return self._by_principal[principal]
        except KeyError:
            found: dict[str, AccessRule] = {}
            for wanted in (ANYBODY, principal):
                found |= {each.prefix: each for each in self.rules if each.principal == wanted}
            limits = Limits(principal, found) if found else None
            self._by_principal[principal] = limits
            return limits


class Limits:
    """The rules that bind one principal, by prefix."""

    def __init__(self, principal: str, rules: dict[str, AccessRule]) -> None:
        """Keep one rule for each prefix."""
        self.principal = principal
        self._rules = rules

    def rule(self, path: str) -> AccessRule | None:
        """Return the rule that governs a path, if one does."""
        while True:
            found = self._rules.get(path)
            if found is not None or path == "/":
                return found
            path = split(path)[0]

    def _allows(self, path: str, level: int) -> bool:
        rule = self.rule(path)
        return rule is None or LEVELS[rule.access] >= level

    def readable(self, path: str) -> bool:
        """Say whether the principal may read what is at a path."""
        return self._allows(path, _READ)

    def visible(self, path: str) -> bool:
        """Say whether a path may be read or leads to one that may."""
        return self.readable(path) or any(
            each.access != "none" and is_inside(prefix, path)
            for prefix, each in self._rules.items()
        )

    def require_visible(self, path: str) -> None:
        """Refuse a path that is neither readable nor above one that is."""
        if not self.visible(path):
            raise self._denied("read", path, self.rule(path))

    def require_read(self, path: str) -> None:
        """Refuse a path that may not be read."""
        if not self.readable(path):
            raise self._denied("read", path, self.rule(path))

    def require_write(self, path: str) -> None:
        """Refuse a path that may not be written."""
        if not self._allows(path, _WRITE):
            raise self._denied("write", path, self.rule(path))

    def require_tree(self, path: str, access: Access) -> None:
        """Refuse a tree of which any part is barred, whether or not that part exists."""
        level = LEVELS[access]
        if not self._allows(path, level):
            raise self._denied(access, path, self.rule(path))
        for prefix, rule in self._rules.items():
            if LEVELS[rule.access] < level and is_inside(prefix, path):
                raise self._denied(access, prefix, rule)

    def _denied(self, verb: str, path: str, rule: AccessRule | None) -> PermissionDenied:
        reason = f"the principal {self.principal!r} may not {verb} here"
        if rule is not None:
            reason += f", by the rule {rule.prefix!r} {rule.principal!r} {rule.access!r}"
        return PermissionDenied(path, reason)


def load(execute: Execute) -> Rules | None:
    """Return the rules of the volume, or None when it has none."""
    rows = execute(_RULES).fetchall()
    return Rules([AccessRule(*row) for row in rows]) if rows else None


def require_visible(view: View, path: str) -> None:
    """Refuse a path that is neither readable for the view's principal nor above one that is."""
    if view.limits is not None and not path.startswith(LINKS_PATH):
        view.limits.require_visible(path)


def require_read(view: View, path: str) -> None:
    """Refuse a path that the view's principal may not read."""
    if view.limits is not None and not path.startswith(LINKS_PATH):
        view.limits.require_read(path)


def require_write(view: View, path: str) -> None:
    """Refuse a path that the view's principal may not write; the link area guards itself."""
    if view.limits is not None and not path.startswith(LINKS_PATH):
        view.limits.require_write(path)


def require_changes(view: View, changes: Iterable[Change]) -> None:
    """Refuse changes of a whole state of which the view's principal may not make every one."""
    if view.limits is not None:
        for change in changes:
            view.limits.require_write(change.path)


def require_tree(view: View, path: str, access: Access) -> None:
    """Refuse a tree of which the view's principal may not read or write every part."""
    if view.limits is not None:
        view.limits.require_tree(path, access)
