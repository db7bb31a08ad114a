"""The conditions that controlled English knows, each with how it is told as CEL and in examples."""

from __future__ import annotations

import re

from fmos.contract.trust_policy import Constraint, SourceKind
from fmos_trust.draft.model import Argument, Expression, Origin

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_GROUPS = {"weekday": DAYS[:5], "weekend": DAYS[5:]}

#: Where an argument of a kind stands unless the sentence says otherwise.
POINTERS = {
    "recipient": "/to", "amount": "/amount", "path": "/path", "url": "/url",
    "command": "/command", "target": "/to",
}  # fmt: skip
_CURRENCIES = {"€": "EUR", "$": "USD", "£": "GBP", "euro": "EUR", "dollar": "USD", "pound": "GBP"}
_FACTORS = {"k": 1_000, "m": 1_000_000}
_RESOURCES = {"calls": "tool_calls", "seconds": "wall_seconds"}


def days_of(words: list[str]) -> tuple[str, ...]:
    """Return the days that words name, in the order of the week."""
    found: set[str] = set()
    for word in words:
        name = word.casefold().split()[-1].rstrip("s")
        found.update(_GROUPS.get(name, (name[:3],)))
    return tuple(day for day in DAYS if day in found)


def on_days(days: tuple[str, ...]) -> Expression:
    """Return that it is one of these days."""
    listed = ", ".join(f'"{day}"' for day in days)
    other = next((day for day in DAYS if day not in days), days[0])
    return Expression(f"time.weekday in [{listed}]", {"weekday": days[0]}, {"weekday": other})


def clock_of(text: str) -> str:
    """Return a time of day as `HH:MM`."""
    found = re.fullmatch(r"(\d+)(?::(\d\d))?\s?([ap]m)?", text.casefold())
    assert found is not None, "the grammar has checked it"
    hour = int(found[1]) % 12 + (12 if found[3] == "pm" else 0) if found[3] else int(found[1])
    return f"{hour:02}:{found[2] or '00'}"


def after(clock: str) -> Expression:
    """Return that it is this time of the day or later."""
    return Expression(f'time.clock >= "{clock}"', {"clock": clock}, {"clock": _minute(clock, -1)})


def before(clock: str) -> Expression:
    """Return that it is earlier in the day."""
    return Expression(f'time.clock < "{clock}"', {"clock": _minute(clock, -1)}, {"clock": clock})


def between(start: str, end: str) -> Expression:
    """Return that it is between two times of the day, also over midnight."""
    joined = "&&" if start < end else "||"
    cel = f'(time.clock >= "{start}" {joined} time.clock < "{end}")'
    return Expression(cel, {"clock": start}, {"clock": end})


def on_date(date: str) -> Expression:
    """Return that it is this day."""
    other = f"{int(date[:4]) + 1}{date[4:]}"
    return Expression(f'time.date == "{date}"', {"date": date}, {"date": other})


def role(name: str) -> Expression:
    """Return that the principal has a role."""
    return Expression(f'"{name}" in principal.roles', {"role": name}, {"role": "somebody"})


def agent(name: str) -> Expression:
    """Return that it is this agent."""
    return Expression(f'principal.agent == "{name}"', {"agent": name}, {"agent": "another"})


def more_often(times: int, period: str) -> Expression:
    """Return that so many calls of the tool were let through before."""
    name = "session" if period == "session" else "today"
    return Expression(f"counters.{name} >= {times}", {name: times}, {name: max(times - 1, 0)})


def left(amount: int, resource: str) -> Expression:
    """Return that less of a resource is left; where it is not limited there is enough."""
    name = _RESOURCES.get(resource, resource)
    cel = f'("{name}" in ledger.left && ledger.left.{name} < {amount})'
    return Expression(cel, {f"left.{name}": max(amount - 1, 0)}, {f"left.{name}": amount})


def number_of(text: str) -> str:
    """Return a number without commas, `k` and `m`."""
    plain = text.replace(",", "")
    factor = _FACTORS.get(plain[-1].casefold())
    if factor is None:
        return plain
    scaled = float(plain[:-1]) * factor
    return str(int(scaled)) if scaled.is_integer() else str(scaled)


def money(number: str, currency: str) -> str:
    """Return an amount as rules write it, such as `500 EUR`."""
    named = _CURRENCIES.get(currency.casefold().rstrip("s"), currency.upper())
    return f"{number_of(number)} {named}" if named else number_of(number)


def amount(comparison: str, limit: str, pointer: str = "") -> Argument:
    """Return that an amount is `above`, `below`, at `max` or at `min` a limit."""
    number, _, currency = limit.partition(" ")
    value = float(number)
    up, down = (_spelled(value + step, currency) for step in (1, -1))
    same = _spelled(value, currency)
    fits, fails = {
        "above": (up, same), "below": (down, same), "max": (same, up), "min": (same, down),
    }[comparison]  # fmt: skip
    constraint = Constraint.model_validate({"type": "amount", comparison: limit})
    return Argument(pointer or POINTERS["amount"], constraint, fits, fails)


def recipients(places: list[str]) -> Argument:
    """Return that a recipient is at one of these domains or addresses."""
    domains = [each for each in places if "@" not in each]
    addresses = [each for each in places if "@" in each]
    said = {"type": "email", "domain": domains, "address": addresses}
    constraint = Constraint.model_validate({name: each for name, each in said.items() if each})
    first = addresses[0] if addresses else f"ann@{domains[0].replace('*', 'mail')}"
    return Argument(POINTERS["recipient"], constraint, first, "eve@elsewhere.invalid")


def paths(folders: list[str]) -> Argument:
    """Return that a path is in one of these folders."""
    under = [re.sub(r"/\*\*?$", "", each) or "/" for each in folders]
    constraint = Constraint.model_validate({"type": "path", "under": under})
    fits = f"{under[0].rstrip('/')}/a.txt"
    return Argument(POINTERS["path"], constraint, fits, "/elsewhere/a.txt")


def hosts(names: list[str]) -> Argument:
    """Return that a URL is on one of these hosts."""
    constraint = Constraint.model_validate({"type": "url", "host": names})
    fits = f"https://{names[0].replace('*', 'www')}/"
    return Argument(POINTERS["url"], constraint, fits, "https://elsewhere.invalid/")


def programs(names: list[str]) -> Argument:
    """Return that a command starts nothing but these programs."""
    constraint = Constraint.model_validate({"type": "command", "programs": names})
    return Argument(POINTERS["command"], constraint, names[0], "something-else")


def texts(pointer: str, values: list[str]) -> Argument:
    """Return that an argument is one of these texts."""
    constraint = Constraint.model_validate({"type": "text", "one_of": values})
    return Argument(pointer, constraint, values[0], "something else")


def comes_from(pointer: str, kinds: list[SourceKind]) -> Origin:
    """Return that an argument's value came from one of these sources."""
    return Origin(pointer, tuple(dict.fromkeys(kinds)))


def pointer_of(word: str) -> str:
    """Return where an argument stands: a pointer itself, or the usual place of its kind."""
    return word if word.startswith("/") else POINTERS[word.casefold().rstrip("s")]


def _minute(clock: str, step: int) -> str:
    minutes = (int(clock[:2]) * 60 + int(clock[3:]) + step) % 1440
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _spelled(value: float, currency: str) -> object:
    plain = int(value) if value.is_integer() else value
    return f"{plain} {currency}" if currency else plain
