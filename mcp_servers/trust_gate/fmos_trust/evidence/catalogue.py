"""What a tool does and what its arguments mean, from its schema alone: name, words, annotations.

Built once for all tools of a server; judging a call only looks up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from fmos.traps.manifest import Effect
from fmos_trust.evidence.words import ACTIONS, NOTHING, OBJECTS, READING, STOP, stem, word_set

Role = Literal[
    "recipient", "account", "url", "path", "id", "credential", "name",  # who or what it acts on
    "when", "where", "amount",  # how
    "body", "title",  # what is said
    "option", "command",
]  # fmt: skip

#: Roles that say who or what a call acts on.
TARGETS: frozenset[Role] = frozenset(
    {"recipient", "account", "url", "path", "id", "credential", "name", "command"}
)
#: Roles that say when, where and how much.
TERMS: frozenset[Role] = frozenset({"when", "where", "amount"})
#: Roles that hold what is said.
SAID: frozenset[Role] = frozenset({"body", "title"})

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
_WORDS = re.compile(r"[a-z]+")
_EXECUTING = word_set("run execute exec eval shell bash deploy install launch invoke")
_SENDING = word_set(
    "send post publish email mail message notify reply forward share invite broadcast tweet"
    " upload announce transfer pay submit"
)
_DESTROYING = word_set(
    "delete remove cancel erase purge wipe drop kick revoke terminate update change reset set"
    " overwrite modify edit"
)

#: By the words of an argument's name, the last word first; then by its description's words.
_NAMED: tuple[tuple[Role, str], ...] = (
        ("credential", "password passcode secret token pin passphrase credential apikey otp"),
        ("url", "url uri link website webpage endpoint webhook href host domain site homepage"),
        ("account", "iban account bic swift wallet routing card beneficiary payee"),
        ("recipient", "recipient to cc bcc participant attendee invitee user member channel email"
         " emails address assignee receiver guest contact room group person people username owner"
         " collaborator mailbox audience phone destination dest team handle reviewer chat"),
        ("path", "path file filename filepath folder directory dir"),
        ("command", "command cmd script shell argv sql statement"),
        ("id", "id ids uuid identifier key ref reference number"),
        ("when", "date time day start end begin until deadline due when from month year hour"
         " timestamp checkin checkout datetime till expiry finish stop"),
        ("amount", "amount price sum total cost budget limit quantity value fee tip count n"),
        ("title", "subject title headline summary label topic reason purpose"),
        ("body", "body content contents text message note description comment detail data html"
         " markdown payload attachment reply caption agenda memo remark instruction query"),
        ("where", "place venue location city country street town"),
    ("name", "name hotel company restaurant shop store product item"
         " event task project airline vendor organisation repo repository branch"),
)  # fmt: skip
_ROLES: tuple[tuple[Role, frozenset[str]], ...] = tuple(
    (role, frozenset(map(stem, word_set(text)))) for role, text in _NAMED
)
_DESCRIBED: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("account", re.compile(r"\biban\b|\baccount number|\bbank account")),
    ("recipient", re.compile(r"\be-?mail address|\brecipient|\bwho (?:gets|receives|should)")),
    ("url", re.compile(r"\burl\b|\blink to\b|\bweb ?(?:site|page)\b")),
    ("credential", re.compile(r"\bpassword\b|\bsecret\b|\bapi key\b")),
    ("when", re.compile(r"\biso (?:8601 )?format\b|\byyyy-mm-dd|\b(?:date|time) (?:of|when|at)\b")),
    ("name", re.compile(r"\bname of\b|\bwhere the\b|\bwhich\b")),
)
_FORMATS: dict[str, Role] = {
    "email": "recipient", "uri": "url", "url": "url", "date": "when", "date-time": "when",
    "time": "when", "uuid": "id", "password": "credential",
}  # fmt: skip


class Tool(Protocol):
    """What is needed of a tool: a ToolDescriptor has it."""

    @property
    def name(self) -> str:
        """The tool's name."""
        ...

    @property
    def description(self) -> str:
        """What the tool says it does."""
        ...

    @property
    def input_schema(self) -> dict[str, Any] | None:
        """The JSON schema of its arguments."""
        ...


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """One tool as the evidence sees it."""

    name: str
    effect: Effect
    outward: bool
    destructive: bool
    roles: dict[str, Role]
    verb: str
    actions: frozenset[str]
    objects: frozenset[str]
    groups: frozenset[str]
    beside: frozenset[str]
    creates: bool

    @property
    def changes(self) -> bool:
        """Whether the tool does more than look."""
        return self.effect != "read"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The tools of a session by name."""

    tools: dict[str, ToolFacts] = field(default_factory=dict)

    @classmethod
    def of(cls, tools: Iterable[Tool]) -> Catalogue:
        """Return the catalogue of some tools."""
        return cls({tool.name: facts_of(tool) for tool in tools})

    def facts(self, tool: Tool) -> ToolFacts:
        """Return what is known of a tool; one that is not in the catalogue is read now."""
        return self.tools.get(tool.name) or facts_of(tool)


def facts_of(tool: Tool) -> ToolFacts:
    """Return what a tool's schema says about it."""
    named = [word.lower() for word in _CAMEL.split(tool.name) if word]
    described = _WORDS.findall(tool.description.lower())
    verb = _verb(named, described)
    effect = _effect(tool, verb, described)
    roles: dict[str, Role] = {
        name: role_of(name, schema) for name, schema in _properties(tool).items()
    }
    if effect != "read" and not any(role in TARGETS for role in roles.values()):
        roles = {name: "name" if role == "title" else role for name, role in roles.items()}
    rest = named[named.index(verb) + 1 :] + named[: named.index(verb)] if verb in named else named
    objects = frozenset(stem(word) for word in rest if word not in STOP)
    beside = [*described[:40], *(word for name in roles for word in _CAMEL.split(name.lower()))]
    verb_stem = stem(verb)
    actions = ACTIONS.get(verb_stem, NOTHING) or _first_action(described)
    groups = frozenset(group for word in objects for group in OBJECTS.get(word, NOTHING))
    if not groups:
        first = next((one for word in described[:12] if (one := stem(word)) in OBJECTS), "")
        groups = OBJECTS.get(first, NOTHING)
    if "money" in groups and actions & {"send", "create"}:
        actions |= {"pay"}
    return ToolFacts(
        name=tool.name,
        effect=effect,
        outward=any(role in ("url", "recipient") for role in roles.values()),
        destructive=verb in _DESTROYING,
        roles=roles,
        verb=verb_stem,
        actions=actions,
        objects=objects,
        groups=groups,
        beside=frozenset(stem(word) for word in beside if word not in STOP and len(word) > 2),
        creates=bool(actions & {"create"}),
    )


def role_of(name: str, schema: Any) -> Role:
    """Return what an argument means, by its type, its format, its name and its description."""
    kind, form, text, fixed = _kind(schema)
    words = [stem(word.lower()) for word in _CAMEL.split(name) if word]
    if kind == "boolean" or fixed:
        return "option"
    if form in _FORMATS:
        return _FORMATS[form]
    by_name = _by_name(words)
    if kind in ("number", "integer"):
        return by_name if by_name in ("id", "amount", "when", "account") else "amount"
    by_words: Role | None = None
    if by_name in (None, "name", "id"):
        by_words = next((role for role, known in _DESCRIBED if known.search(text)), None)
    return by_words or by_name or "name"


def _by_name(words: list[str]) -> Role | None:
    for word in reversed(words):
        for role, known in _ROLES:
            if word in known:
                return role
    return None


def _kind(schema: Any) -> tuple[str, str, str, bool]:
    """Return a schema's type, format, description and whether its values are listed."""
    if not isinstance(schema, Mapping):
        return "", "", "", False
    text = str(schema.get("description", "")).lower()
    found = [
        schema,
        *(one for key in ("anyOf", "oneOf", "allOf") for one in _list(schema.get(key))),
    ]
    found += [one["items"] for one in found if isinstance(one.get("items"), Mapping)]
    kinds = [str(kind) for one in found for kind in _list(one.get("type"))]
    kind = next((kind for kind in reversed(kinds) if kind not in ("null", "array")), "")
    form = next((str(one["format"]) for one in found if "format" in one), "")
    return kind, form, text, any("enum" in one or "const" in one for one in found)


def _list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [one for one in value if isinstance(one, Mapping | str)]
    return [value] if isinstance(value, str) else []


def _properties(tool: Tool) -> Mapping[str, Any]:
    schema = tool.input_schema or {}
    found = schema.get("properties", {})
    return found if isinstance(found, Mapping) else {}


def _verb(named: list[str], described: list[str]) -> str:
    """Return the word that says what the tool does."""
    first = _bare(described[0]) if described else ""
    plain = [word for word in named if stem(word) not in OBJECTS]
    sure = [word for word in plain[1:] if word in _SENDING or word in _DESTROYING]
    leading = plain[:1] if plain[:1] == named[:1] else []
    looks = [first] if first in READING else []
    for word in (*leading, *sure, *looks, *plain, first, *named, *map(_bare, described[1:3])):
        if word in READING or word in _EXECUTING or stem(word) in ACTIONS:
            return word
    return first or (named[0] if named else "")


def _bare(word: str) -> str:
    """Return a verb without the ending of `returns`, `searches`, `lists`."""
    for ending in ("es", "s"):
        bare = word.removesuffix(ending)
        if bare != word and (bare in READING or bare in _EXECUTING):
            return bare
    return word


def _first_action(described: list[str]) -> frozenset[str]:
    return next((ACTIONS[one] for word in described[:4] if (one := stem(word)) in ACTIONS), NOTHING)


def _effect(tool: Tool, verb: str, described: list[str]) -> Effect:
    declared = getattr(tool, "effect", None)
    if declared in ("read", "write", "execute", "send"):
        return declared
    annotations = getattr(tool, "annotations", None) or {}
    if isinstance(annotations, Mapping) and annotations.get("readOnlyHint") is True:
        return "read"
    if verb in _EXECUTING:
        return "execute"
    if verb in READING:
        return "read"
    return "send" if verb in _SENDING or stem(verb) in _SENDING else "write"
