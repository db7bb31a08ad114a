"""Redaction at the gate, both ways: outputs before a model reads them, arguments before they leave.

Learns the secrets of what is observed, hides what `[trust] redact_outputs` names, puts values back
for the tools that may have them, and judges the arguments of calls, last of all judges.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from fmos.redaction import GENERIC, Found, Span, find
from fmos.replay.encryption import SessionCipher
from fmos.runtime.kernel import Kernel
from fmos.runtime.states import AgentState
from fmos.types import Observation, Principal
from fmos_trust.facts import Facts
from fmos_trust.findings import Finding, finding
from fmos_trust.keyed import KeyedHash
from fmos_trust.redaction import fragments
from fmos_trust.redaction.exact import Known
from fmos_trust.redaction.forms import SHORTEST
from fmos_trust.redaction.model import Hidden, Shown
from fmos_trust.redaction.store import RedactionStore
from fmos_trust.rules import leaving
from fmos_trust.secrets import KnownSecret, known

_DAY_NS = 86_400 * 1_000_000_000
#: What is kept without end ends then.
_ALWAYS_NS = (1 << 63) - 1
_SECRETS = "secrets"
#: A text that shows more is hostile, and would fill the home; the most telling ones count.
_MOST_AT_ONCE = 256
_TOKEN = re.compile(r"<secret:[a-z0-9-]{1,64}:[0-9]{1,9}>")
_SALT = b"fmos_trust.redaction"
#: Roles of arguments that a person's name or number belongs in.
_ADDRESSES = ("recipient", "path")


class _Place(NamedTuple):
    """What is to be hidden in a text: from, to, what it is."""

    start: int
    end: int
    kind: str
    classes: tuple[str, ...]


class Redactions:
    """What one gate hides, and puts back. Thread-safe."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._settings = kernel.settings.trust
        self._store = RedactionStore(kernel.database)

    @property
    def wants_all(self) -> bool:
        """Whether every call must come before the gate: what to hide or put back is known here."""
        settings = self._settings
        more = set(settings.redact_outputs) - {_SECRETS}
        return bool(more or settings.redact_arguments or settings.restore_for)

    def known(self, tenant: str, lineage: tuple[str, ...]) -> Known:
        """Return the secrets that an agent and those it descends from have seen."""
        return self._store.known(tenant, lineage)

    def learn(self, who: Principal, secrets: Iterable[KnownSecret]) -> None:
        """Keep what is known of secrets, for `[trust] secrets_keep_days`."""
        now_ns = self._kernel.clock.now_ns()
        until_ns = self._until_ns(now_ns)
        self._store.put(who, secrets, until_ns, until_ns - _DAY_NS)

    def observed(self, who: Principal, observation: Observation) -> Shown | None:
        """Learn the secrets of what entered a session; return what may be shown, if not all of it.

        A user's own text is learnt from, and stays.
        """
        text = observation.text
        hiding = () if observation.source == "user" else self._settings.redact_outputs
        spans = find(text, {_SECRETS, *hiding})
        keyed = KeyedHash(self._kernel.keys_of(who.tenant))
        self._learn_spans(who, text, spans, observation.source, keyed)
        if not hiding:
            return None
        places = [_place(span) for span in spans if _is_named(span, hiding)]
        if _SECRETS in hiding:
            seen = self.known(who.tenant, self._kernel.agents.lineage(who))
            places += [
                _Place(match.start, match.end, match.secret.kind, (_SECRETS,))
                for match in seen.matches(text, keyed)
            ]
        if not places:
            return None
        counted: Counter[str] = Counter()
        hidden = _replaced(text, places, lambda place: self._name(who, text, place, counted))
        told = tuple(Hidden(kind=kind, count=count) for kind, count in sorted(counted.items()))
        return Shown(text=hidden, hidden=told)

    def premise(self, tenant: str, lineage: tuple[str, ...]) -> list[list[Any]]:
        """Return what an agent has seen, as a recording keeps it."""
        return [
            [each.kind, each.length, each.digest.hex(), each.source, each.forms.hex()]
            for each in self.known(tenant, lineage)
        ]

    def restore(self, who: Principal, told: list[list[Any]]) -> None:
        """Keep what `premise` said of another home's agent."""
        seen = [
            KnownSecret(kind, length, bytes.fromhex(digest), source, bytes.fromhex("".join(forms)))
            for kind, length, digest, source, *forms in told
        ]
        self.learn(who, seen)

    def judge(self, facts: Facts) -> Iterator[Finding]:
        """Deny a secret that leaves piece by piece; take out and put back what the home says."""
        yield from self._piecemeal(facts)
        yield from self._taken_out(facts)
        yield from self._put_back(facts)

    def expire(self) -> None:
        """Forget what was kept long enough, and the tokens of agents that are no more."""
        self._store.expire(self._kernel.clock.now_ns())
        for tenant, key in self._store.holders():
            application, _, agent = key.rpartition(":")
            who = Principal(tenant=tenant, application=application, agent=agent)
            if self._kernel.agents.descent(who).state is AgentState.KILLED:
                self._store.forget_agent(tenant, key)

    def forget(self, who: Principal) -> None:
        """Forget a session's tokens with their values, and what it sent."""
        self._store.forget(who)

    def _until_ns(self, now_ns: int) -> int:
        days = self._settings.secrets_keep_days
        return now_ns + int(days * _DAY_NS) if days else _ALWAYS_NS

    def _learn_spans(
        self, who: Principal, text: str, spans: list[Span], source: str, keyed: KeyedHash
    ) -> None:
        values = {
            text[span.start : span.end]: span.rule.id
            for span in sorted(spans, key=lambda each: each.rule.id == GENERIC)
            if _SECRETS in span.rule.classes and span.end - span.start >= SHORTEST
        }
        learnt = list(values.items())[:_MOST_AT_ONCE]
        if learnt:
            self.learn(who, [known(Found(kind, value), source, keyed) for value, kind in learnt])

    def _name(self, who: Principal, text: str, place: _Place, counted: Counter[str]) -> str:
        """Return what stands for a value: its kind, or a token that leads back to it."""
        counted[place.kind] += 1
        if not {*place.classes, place.kind} & set(self._settings.reversible):
            return f"<{place.kind}>"
        value = text[place.start : place.end].encode("utf-8", "surrogatepass")
        cipher = self._cipher(who)
        digest = bytes.fromhex(cipher.digest(value))
        until_ns = self._until_ns(self._kernel.clock.now_ns())
        return self._store.token(who, place.kind, digest, cipher.encrypt(value), until_ns)

    def _piecemeal(self, facts: Facts) -> Iterator[Finding]:
        """Put the pieces of this call behind those of the calls before, and look at the whole."""
        if not facts.secrets:
            return
        new = fragments.pieces(leaving(facts))
        if not new:
            return
        who = facts.operation.principal
        before = self._pieces(who)
        if new == before[-len(new) :]:
            return  # the same call again
        kept = [*before, *new][-fragments.MOST :]
        seen = facts.secrets if isinstance(facts.secrets, Known) else Known(facts.secrets)
        for whole in fragments.together(kept):
            met = seen.matches(whole, facts.keyed)
            if met:
                if seen.first(leaving(facts), facts.keyed) is None:  # else a rule has said so
                    yield _leaves_in_pieces(met[0].secret)
                return  # not kept: what was stopped has not left
        if facts.dry:
            return
        sealed = self._cipher(who).encrypt(json.dumps(kept).encode())
        self._store.put_fragments(who, sealed, self._until_ns(self._kernel.clock.now_ns()))

    def _pieces(self, who: Principal) -> list[str]:
        sealed = self._store.fragments(who)
        plain = self._cipher(who).decrypt(sealed) if sealed is not None else None
        return [] if plain is None else json.loads(plain)

    def _taken_out(self, facts: Facts) -> Iterator[Finding]:
        """Take what `[trust] redact_arguments` names out of texts that leave."""
        classes = self._settings.redact_arguments
        if not classes or not leaving(facts):
            return
        changed: dict[str, Any] = {}
        counted: Counter[str] = Counter()
        for name, value in facts.operation.arguments.items():
            role = facts.roles.get(name)
            if role in _ADDRESSES:
                continue
            new = changed_texts(value, lambda text: _without(text, classes, counted))
            if new != value and role == "command":
                yield _in_a_command(counted)
                return
            changed[name] = new
        if counted:
            said = f"took {_listed(counted)} out of the arguments"
            reason = finding(
                "rewrite", "execution", "trust.redacted", said, rule="redact",
                change="the home's [trust] redact_arguments",
            ).reason  # fmt: skip
            yield Finding("rewrite", reason, {**facts.operation.arguments, **changed})

    def _put_back(self, facts: Facts) -> Iterator[Finding]:
        """Put the values of tokens back for the tools that `[trust] restore_for` names."""
        tools = self._settings.restore_for
        names = (facts.tool, facts.capability)
        if not tools or not any(fnmatchcase(name, each) for each in tools for name in names):
            return
        put: Counter[str] = Counter()
        arguments = facts.operation.arguments
        who = facts.operation.principal
        new = changed_texts(
            arguments, lambda text: _TOKEN.sub(lambda at: self._value(who, at[0], put), text)
        )
        if put:
            said = f"put {_listed(put)} back into the arguments"
            reason = finding(
                "rewrite", "execution", "trust.restored", said, rule="restore",
                change="the home's [trust] restore_for",
            ).reason  # fmt: skip
            yield Finding("rewrite", reason, new)

    def _value(self, who: Principal, token: str, put: Counter[str]) -> str:
        sealed = self._store.value(who, token)
        value = self._cipher(who).decrypt(sealed) if sealed is not None else None
        if value is None:
            return token
        put[token] += 1
        return value.decode("utf-8", "surrogatepass")

    def _cipher(self, who: Principal) -> SessionCipher:
        session = "\0".join((who.agent_key, who.session)).encode()
        salt = hashlib.blake2b(session, person=_SALT[:16], digest_size=16).digest()
        return SessionCipher(self._kernel.keys_of(who.tenant), salt, purpose="redaction")


def changed_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with every text in it changed; the names of fields stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: changed_texts(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [changed_texts(each, change) for each in value]
    return value


def _without(text: str, classes: tuple[str, ...], counted: Counter[str]) -> str:
    def name(place: _Place) -> str:
        counted[place.kind] += 1
        return f"<{place.kind}>"

    return _replaced(text, [_place(span) for span in find(text, classes)], name)


def _replaced(text: str, places: list[_Place], name: Callable[[_Place], str]) -> str:
    """Return a text with each place replaced by its name; of two that overlap, by the first's."""
    parts: list[str] = []
    done = 0
    for place in sorted(places, key=lambda each: (each.start, -each.end)):
        if place.start >= done:
            parts += (text[done : place.start], name(place))
        done = max(done, place.end)
    return "".join((*parts, text[done:]))


def _place(span: Span) -> _Place:
    return _Place(span.start, span.end, span.rule.id, span.rule.classes)


def _is_named(span: Span, names: tuple[str, ...]) -> bool:
    return span.rule.id in names or any(each in names for each in span.rule.classes)


def _leaves_in_pieces(secret: KnownSecret) -> Finding:
    return finding(
        "deny",
        "execution",
        "trust.secret",
        f"with what was sent before, the arguments hold a {secret.kind} that came from"
        f" {secret.source!r}; secrets may not leave, in pieces neither",
        rule="secret",
        change="arguments without any part of it",
    )


def _in_a_command(counted: Counter[str]) -> Finding:
    return finding(
        "ask",
        "execution",
        "trust.redact_command",
        f"the command holds {_listed(counted)}, which the home takes out of what leaves; a command"
        " is not changed, so a person has to agree",
        rule="redact",
        change="a command without it",
    )


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))
