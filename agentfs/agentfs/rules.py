"""`fs.rules`: sets and lists the access rules of the volume; `acl` says what they mean.

The rules belong to the volume and not to a branch, so that a fork or a restore escapes nothing.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import Any

from . import acl, journal
from .errors import InvalidArgument, PermissionDenied
from .nodes import View
from .paths import PathLike, normalise, to_stored
from .types import Access, AccessRule

_SET = "INSERT OR REPLACE INTO access_rule(prefix, principal, access) VALUES (?, ?, ?)"
_REMOVE = "DELETE FROM access_rule WHERE prefix = ? AND principal = ? RETURNING access"
_CLEAR = "DELETE FROM access_rule WHERE principal = ?"

Run = Callable[..., Any]


class AccessRules:
    """The access rules of a volume; only a handle opened with `system` may change them."""

    def __init__(self, change: Run, ask: Run) -> None:
        """Take what runs a function in a transaction, for writing and for reading."""
        self._change = change
        self._ask = ask

    def set(self, prefix: PathLike, principal: str, access: Access) -> None:
        """Let a principal, or `*` for any, read, write or not see a path and all below it.

        Raises:
            PermissionDenied: the handle was not opened with `system`.
            InvalidArgument: the access is not "read", "write" or "none".
        """
        self._change(_set, AccessRule(_prefix(prefix), _principal(principal), _access(access)))

    def remove(self, prefix: PathLike, principal: str) -> bool:
        """Take a rule back, and say whether there was one.

        Raises:
            PermissionDenied: the handle was not opened with `system`.
        """
        return self._change(_remove, _prefix(prefix), _principal(principal))

    def replace(self, principal: str, rules: Mapping[str, Access]) -> None:
        """Put these rules, by prefix, in the place of all that a principal has, at once.

        Raises:
            PermissionDenied: the handle was not opened with `system`.
            InvalidArgument: an access is not "read", "write" or "none".
        """
        name = _principal(principal)
        made = [AccessRule(_prefix(each), name, _access(rules[each])) for each in rules]
        self._change(_replace, name, made)

    def list(self) -> builtins.list[AccessRule]:
        """Return all rules, sorted by prefix and principal."""
        return self._ask(_list)

    def access(self, path: PathLike, principal: str) -> Access:
        """Return what a principal may do at a path, links not followed."""
        return self._ask(_effective, _prefix(path), _principal(principal))


def _prefix(path: PathLike) -> str:
    normal = normalise(path)
    if isinstance(to_stored(normal), bytes):
        raise InvalidArgument(ascii(normal), "the path of a rule is text that UTF-8 can hold")
    return normal


def _principal(name: str) -> str:
    if any(0xD800 <= ord(each) <= 0xDFFF for each in name):
        raise InvalidArgument(ascii(name), "a principal is text that UTF-8 can hold")
    return name


def _access(access: Access) -> Access:
    if access not in acl.LEVELS:
        raise InvalidArgument(access, "access is 'read', 'write' or 'none'")
    return access


def _require_system(view: View) -> None:
    if not view.system:
        raise PermissionDenied("access rules", "only a handle opened with system=True sets them")


def _set(view: View, rule: AccessRule) -> None:
    _require_system(view)
    view.session.execute(_SET, (rule.prefix, rule.principal, rule.access))
    detail = {"principal": rule.principal, "access": rule.access}
    _changed(view, "rule.set", rule.prefix, detail)


def _remove(view: View, prefix: str, principal: str) -> bool:
    _require_system(view)
    if view.session.execute(_REMOVE, (prefix, principal)).fetchone() is None:
        return False
    _changed(view, "rule.remove", prefix, {"principal": principal})
    return True


def _replace(view: View, principal: str, rules: list[AccessRule]) -> None:
    _require_system(view)
    view.session.execute(_CLEAR, (principal,))
    for rule in rules:
        view.session.execute(_SET, (rule.prefix, rule.principal, rule.access))
    granted = {rule.prefix: rule.access for rule in rules}
    _changed(view, "rule.replace", "/", {"principal": principal, "rules": granted})


def _changed(view: View, operation: str, path: str, detail: dict[str, Any]) -> None:
    journal.append(view, operation, path, detail=detail)
    view.session.forget()


def _list(view: View) -> list[AccessRule]:
    rules = acl.load(view.session.execute)
    return rules.rules if rules else []


def _effective(view: View, path: str, principal: str) -> Access:
    rules = acl.load(view.session.execute)
    limits = rules.of(principal) if rules else None
    rule = limits.rule(path) if limits else None
    return rule.access if rule else "write"
