"""What a rule wants of one argument, compiled to a question about the arguments of a call.

Each kind of value is brought into its canonical form by `fmos_trust.operators` first. Where a
value may be read in several ways it may fit without surely fitting: what allows goes by the
surest reading, what stops by any.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from fmos.contract.globs import normalise
from fmos.contract.trust_policy import Constraint, ValueType, amount
from fmos.contract.written import pattern, validator
from fmos.errors import ArgumentError, MissingExtraError
from fmos_trust.operators import (
    OperatorError,
    amount_of,
    command_of,
    emails_of,
    host_matches,
    path_of,
    shown,
    sql_of,
    url_of,
)
from fmos_trust.policy.pointers import found_at, leaves_at, parts_of
from fmos_trust.policy.surroundings import UnusableError

#: Whether the arguments of a call are as one constraint wants them for its rule to apply.
Check = Callable[[Mapping[str, Any]], bool]


class Fit(NamedTuple):
    """Whether a value fits in every reading, and whether it does in any."""

    surely: bool
    maybe: bool


_Ask = Callable[[Any], Fit]


def check_of(pointer: str, constraint: Constraint, *, allows: bool) -> Check:
    """Compile what a rule wants of the argument at a pointer.

    Raises:
        UnusableError: when asked about arguments that cannot be judged, naming the value.
    """
    parts, asks = parts_of(pointer), _asks_of(constraint)
    negated, optional = constraint.negated, constraint.optional
    values = found_at if _is_whole(constraint) else leaves_at

    def fits(value: Any) -> bool:
        if allows != negated:
            surely = all(ask(value).surely for ask in asks)
            return surely if allows else not surely
        maybe = all(ask(value).maybe for ask in asks)
        return not maybe if allows else maybe

    def check(arguments: Mapping[str, Any]) -> bool:
        try:
            found = values(arguments, parts)
            if not found:
                return optional if allows else negated and not optional
            if len(found) == 1:
                return fits(found[0][1])
            # Every value is looked at, so that one that cannot be read denies wherever it stands.
            answers = [fits(value) for _, value in found]
        except (OperatorError, ArgumentError, MissingExtraError) as error:
            raise UnusableError(f"{pointer}: {error}") from error
        return all(answers) if allows else any(answers)

    return check


def _is_whole(constraint: Constraint) -> bool:
    """Return whether lists are judged as one value: by a schema, or as the words of a command."""
    return constraint.type in (None, "command")


def _asks_of(constraint: Constraint) -> list[_Ask]:
    found: list[_Ask] = []
    if constraint.type is not None:
        found.append(_ASKS[constraint.type](constraint))
    if constraint.schema_ is not None:
        is_valid = validator(constraint.schema_).is_valid
        found.append(lambda value: _one(is_valid(value)))
    return found


def _one(fits: bool) -> Fit:
    return _YES if fits else _NO


_YES, _NO = Fit(True, True), Fit(False, False)


def _path(constraint: Constraint) -> _Ask:
    folders = [normalise(each).rstrip("/") for each in constraint.under]

    def inside(path: str) -> bool:
        return any(path == each or path.startswith(f"{each}/") for each in folders)

    def ask(value: Any) -> Fit:
        readings = path_of(value).readings
        if not folders:
            return _YES
        found = [inside(each) for each in readings]
        return Fit(all(found), any(found))

    return ask


def _url(constraint: Constraint) -> _Ask:
    schemes = frozenset(each.lower() for each in constraint.scheme)

    def ask(value: Any) -> Fit:
        url = url_of(value)
        if url.userinfo:
            raise OperatorError("a URL with a name or password before its host is not judged")
        port = url.port or _PORTS.get(url.scheme)
        return _one(
            (not schemes or url.scheme in schemes)
            and (not constraint.host or (bool(url.host) and _is_host(url.host, constraint.host)))
            and (not constraint.port or port in constraint.port)
        )

    return ask


_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}


def _is_host(host: str, patterns: Iterable[str]) -> bool:
    return host_matches(host, patterns)


def _email(constraint: Constraint) -> _Ask:
    addresses = frozenset(each.lower() for each in constraint.address)
    anyone = not addresses and not constraint.domain

    def is_one(text: str, mailbox: str, domain: str) -> Fit:
        if anyone or (constraint.domain and host_matches(domain, constraint.domain)):
            return _YES
        return Fit(text in addresses, text in addresses or mailbox in addresses)

    def ask(value: Any) -> Fit:
        found = [is_one(each.text, each.mailbox, each.domain) for each in emails_of(value)]
        return Fit(all(each.surely for each in found), any(each.maybe for each in found))

    return ask


def _amount(constraint: Constraint) -> _Ask:
    limits = {name: getattr(constraint, name) for name in ("max", "min", "above", "below")}
    wanted = {name: amount(text) for name, text in limits.items() if text is not None}
    currency = next((each[1] for each in wanted.values() if each[1]), "")
    currencies = frozenset(each.upper() for each in constraint.currency)

    def ask(value: Any) -> Fit:
        found = amount_of(value)
        if currency and found.currency and found.currency != currency:
            raise OperatorError(
                f"{shown(found.text)} cannot be compared with an amount in {currency}"
            )
        number = found.value
        return _one(
            ("max" not in wanted or number <= wanted["max"][0])
            and ("min" not in wanted or number >= wanted["min"][0])
            and ("above" not in wanted or number > wanted["above"][0])
            and ("below" not in wanted or number < wanted["below"][0])
            and (not currencies or found.currency in currencies)
        )

    return ask


def _command(constraint: Constraint) -> _Ask:
    programs = frozenset(constraint.programs)

    def ask(value: Any) -> Fit:
        started = command_of(value).programs
        found = [each in programs for each in started]
        return Fit(bool(found) and all(found), any(found)) if programs else _YES

    return ask


def _sql(constraint: Constraint) -> _Ask:
    wanted = frozenset(constraint.classes)

    def ask(value: Any) -> Fit:
        found = [each in wanted for each in sql_of(value).classes]
        return Fit(all(found), any(found)) if wanted else _YES

    return ask


def _text(constraint: Constraint) -> _Ask:
    exact = frozenset(constraint.one_of)
    alike = frozenset(map(_plain, constraint.one_of))
    searched = pattern(constraint.pattern) if constraint.pattern else None
    longest = constraint.max_length

    def ask(value: Any) -> Fit:
        text = _as_text(value)
        short = longest is None or len(text) <= longest
        surely = short and (not exact or text in exact)
        maybe = short and (not exact or _plain(text) in alike)
        if searched is None:
            return Fit(surely, maybe)
        whole = surely and searched.fullmatch(text) is not None
        return Fit(whole, maybe and any(map(searched.search, (text, _normal(text)))))

    return ask


def _as_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise OperatorError(f"{shown(value)} is not text")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise OperatorError("the text holds half of a character pair") from None
    return text


def _normal(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _plain(text: str) -> str:
    return _normal(text).strip().casefold()


_ASKS: dict[ValueType, Callable[[Constraint], _Ask]] = {
    "path": _path,
    "url": _url,
    "email": _email,
    "amount": _amount,
    "command": _command,
    "sql": _sql,
    "text": _text,
}
