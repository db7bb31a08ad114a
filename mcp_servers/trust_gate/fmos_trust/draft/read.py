"""Reads controlled English: one sentence to what it says, or the word that is not understood."""

from __future__ import annotations

import difflib
import functools
import re
from importlib import resources
from typing import Any, NoReturn

from lark import Lark, Token, Transformer, Tree, v_args
from lark.exceptions import UnexpectedEOF, UnexpectedInput, VisitError

from fmos.contract.trust_policy import DataClass, RuleEffect, Selector, SourceKind
from fmos.errors import ArgumentError
from fmos_trust.draft import conditions as say
from fmos_trust.draft.model import Condition, Exceptions, Sentence

_KEYWORD = re.compile(r'"([a-z\']+)"')
#: What a noun stands for: tools by glob, capabilities, or what a tool does.
KINDS: dict[str, tuple[dict[str, str], ...]] = {
    "deploy": ({"name": "*deploy*"},),
    "file write": ({"capability": "fs.write"},),
    "writing file": ({"capability": "fs.write"},),
    "file read": ({"capability": "fs.read"},),
    "reading file": ({"capability": "fs.read"},),
    "write": ({"effect": "write"},),
    "read": ({"effect": "read"},),
    "message": ({"effect": "send"},),
    "execution": ({"effect": "execute"},),
    "payment": ({"name": "*pay*"},),
    "transfer": ({"name": "*transfer*"},),
    "deletion": ({"name": "*delete*"}, {"name": "*remove*"}),
    "purchase": ({"name": "*purchase*"}, {"name": "*buy*"}),
    "booking": ({"name": "*book*"}, {"name": "*reserve*"}),
    "refund": ({"name": "*refund*"},),
    "web request": ({"capability": "web.fetch"},),
    "upload": ({"name": "*upload*"},),
    "download": ({"name": "*download*"},),
    "call": ({"name": "*"},),
}
_SAME = {
    "deployment": "deploy", "deploying": "deploy", "writing": "write", "change": "write",
    "reading": "read", "email": "message", "e-mail": "message", "send": "message",
    "sending": "message", "command": "execution", "executing": "execution", "paying": "payment",
    "transferring": "transfer", "deleting": "deletion", "delete": "deletion",
    "buying": "purchase", "tool call": "call", "everything": "call", "anything": "call",
    "uploading": "upload",
}  # fmt: skip
_EXAMPLES = (
    "no deployments on Fridays after 16:00 unless on-call",
    "ask before payments above 500 EUR",
    "e-mails only to example.com",
    "mask secrets in messages",
)


def read_sentence(text: str) -> Sentence:
    """Return what a sentence says.

    Raises:
        ArgumentError: naming the first word that is not understood, with the nearest that is.
    """
    plain = " ".join(text.split())
    if not plain or len(plain) > 1000:
        raise ArgumentError(
            "a policy is drafted from one sentence of at most 1,000 characters",
            hint=f"such as: {_EXAMPLES[0]}",
        )
    try:
        tree = _parser().parse(plain)
        found: Sentence = _Reader(plain).transform(tree)
    except UnexpectedInput as error:
        _refuse(plain, error)
    except VisitError as error:
        if isinstance(error.orig_exc, ArgumentError):
            raise error.orig_exc from None
        raise ArgumentError(
            f"the sentence says what no rule can: {error.orig_exc}",
            hint="say it as two sentences, or write the rule in YAML",
        ) from error
    return found


@functools.lru_cache(maxsize=1)
def keywords() -> tuple[str, ...]:
    """Return the words that the grammar knows."""
    return tuple(sorted(set(_KEYWORD.findall(_grammar_text()))))


def _grammar_text() -> str:
    return resources.files("fmos_trust.draft").joinpath("grammar.lark").read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1)
def _parser() -> Lark:
    """Return the parser. Keywords become terminals of their own, which no NAME can be."""
    text = _KEYWORD.sub(lambda found: _terminal(found[1]), _grammar_text())
    ends = r"(?![\w.*@:-])"
    days = "(mon|tues|wednes|thurs|fri|satur|sun)days?|week(day|end)s?"
    taken = "|".join([*map(re.escape, keywords()), days])
    before, name, rest = text.partition("NAME: /")
    pattern, slash, rest = rest.partition("/\n")
    text = f"{before}{name}(?i:(?!({taken}){ends})({pattern})){slash}{rest}"
    known = "\n".join(f"{_terminal(word)}: /{word}{ends}/i" for word in keywords())
    return Lark(f"{text}\n{known}\n", parser="earley", lexer="dynamic")


def _terminal(keyword: str) -> str:
    return "_" + keyword.upper().replace("'", "Q")


def _refuse(text: str, error: UnexpectedInput) -> NoReturn:
    if isinstance(error, UnexpectedEOF):
        raise ArgumentError(
            f"the sentence {text!r} ends too early", hint=_nearest("", text)
        ) from error
    position = getattr(error, "pos_in_stream", 0) or 0
    rest = text[position:]
    word = re.match(r"\S+", rest.strip())
    shown = word[0].rstrip(".,") if word else rest
    # What was taken for a name may be the word that was meant otherwise.
    raise ArgumentError(
        f"{shown!r} is not understood (after {text[:position].strip()!r})",
        hint=_nearest(shown, text),
    ) from error


def _nearest(word: str, text: str) -> str:
    """Return the nearest word that is known, and the nearest of the example sentences."""
    plain = word.casefold()
    known = [
        *keywords(),
        *say.DAYS,
        *(f"{day}day" for day in ("fri", "mon", "sun")),
        *KINDS,
        *_SAME,
    ]
    near = difflib.get_close_matches(plain, known, n=1, cutoff=0.75) if plain else []
    meant = f"did you mean {near[0]!r}? " if near and near[0] != plain else ""
    tool = f"for a tool of this name write: tool {word}; " if word and not near else ""
    example = difflib.get_close_matches(text.casefold(), _EXAMPLES, n=1, cutoff=0.0)
    return f"{meant}{tool}one that is understood: {(example or _EXAMPLES)[0]}"


def _kind(word: str) -> tuple[Selector, ...]:
    plain = re.sub(r"\s+", " ", word.casefold())
    for name in (plain, plain.removesuffix("s")):
        found = KINDS.get(_SAME.get(name, name))
        if found is not None:
            return tuple(Selector.model_validate(each) for each in found)
    raise ArgumentError(f"{word!r} is no kind of call", hint="write: tool NAME")


def _text(token: Any) -> str:
    return str(token).strip('"')


def _one_alone(selectors: list[tuple[Selector, ...]]) -> tuple[Selector, ...]:
    return tuple(dict.fromkeys(each for group in selectors for each in group))


class _Clause:
    """A part of a sentence beside what it is about."""

    def __init__(self, kind: str, parts: tuple[Any, ...]) -> None:
        self.kind = kind
        self.parts = parts


@v_args(inline=True)
class _Reader(Transformer[Token, Any]):
    """Turns the tree of a sentence into what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._sentence = text

    def start(self, found: Sentence) -> Sentence:
        return found

    # -- sentences ------------------------------------------------------------------------------

    def deny(self, *parts: Any) -> Sentence:
        never = any(isinstance(each, Tree) and each.data == "never" for each in parts)
        return self._made("deny", parts, priority=100 if never else 0)

    def ask(self, *parts: Any) -> Any:
        if not any(isinstance(each, tuple) for each in parts):
            return None  # the words that ask, not the sentence
        return self._made("ask", parts)

    def allow(self, *parts: Any) -> Any:
        if not any(isinstance(each, tuple) for each in parts):
            return "plain"
        return self._made("allow", parts, priority=20 if "always" in parts else 10)

    def always(self, *_: Any) -> str:
        return "always"

    def redact(self, _mask: Any, data: list[DataClass], what: Any, *clauses: Any) -> Sentence:
        return self._made("redact", (what, *clauses), data=tuple(dict.fromkeys(data)))

    def only_who(self, who: Condition, what: Any, *clauses: Any) -> Sentence:
        except_who = _Clause("unless_any", (who,))
        return self._made("deny", (what, *clauses, except_who))

    def only_all(self, *parts: Any) -> Sentence:
        return self._only("unless_all", parts)

    def only_any(self, *parts: Any) -> Sentence:
        return self._only("unless_any", parts)

    def _only(self, kind: str, parts: tuple[Any, ...]) -> Sentence:
        what = next(each for each in parts if isinstance(each, tuple))
        given = tuple(each for each in parts if _is_condition(each))
        return self._made("deny", (what, _Clause(kind, given)))

    def _made(
        self,
        effect: RuleEffect,
        parts: tuple[Any, ...],
        *,
        data: tuple[DataClass, ...] = (),
        priority: int = 0,
    ) -> Sentence:
        what = next(each for each in parts if isinstance(each, tuple))
        given: list[Condition] = []
        exceptions: list[Exceptions] = []
        but: list[tuple[Selector, ...]] = []
        for clause in parts:
            if _is_condition(clause):
                given.append(clause)
            elif isinstance(clause, _Clause) and clause.kind == "given":
                given.extend(clause.parts)
            elif isinstance(clause, _Clause) and clause.kind == "except_what":
                but.extend(clause.parts)
            elif isinstance(clause, _Clause):
                together = clause.kind == "unless_all" and len(clause.parts) > 1
                exceptions.append(Exceptions(clause.parts, together))
        return Sentence(
            text=self._sentence,
            effect=effect,
            what=what,
            given=tuple(given),
            exceptions=tuple(exceptions),
            but=_one_alone(but),
            data=data,
            priority=priority,
        )

    # -- what it is about -----------------------------------------------------------------------

    def what(self, *things: tuple[Selector, ...]) -> tuple[Selector, ...]:
        return _one_alone(list(things))

    def name(self, token: Token) -> str:
        return _text(token)

    def tool(self, name: str) -> tuple[Selector, ...]:
        return (Selector(name=name),)

    def tool_quoted(self, token: Token) -> tuple[Selector, ...]:
        return (Selector(name=_text(token)),)

    def capability(self, name: str) -> tuple[Selector, ...]:
        return (Selector(capability=name),)

    def kind(self, token: Token) -> tuple[Selector, ...]:
        return _kind(_text(token))

    def data(self, *found: DataClass) -> list[DataClass]:
        return list(found)

    def secrets(self) -> DataClass:
        return "secrets"

    def pii(self) -> DataClass:
        return "pii"

    # -- clauses --------------------------------------------------------------------------------

    def given(self, *parts: Condition) -> _Clause:
        return _Clause("given", parts)

    def unless_any(self, *parts: Condition) -> _Clause:
        return _Clause("unless_any", parts)

    def unless_all(self, *parts: Condition) -> _Clause:
        return _Clause("unless_all", parts)

    def except_what(self, what: tuple[Selector, ...]) -> _Clause:
        return _Clause("except_what", (what,))

    # -- conditions -----------------------------------------------------------------------------

    def role(self, token: Token) -> Condition:
        return say.role(_text(token))

    def agent(self, token: Token) -> Condition:
        return say.agent(_text(token))

    def days(self, *tokens: Token) -> tuple[str, ...]:
        return say.days_of([str(each) for each in tokens])

    def on_days(self, days: tuple[str, ...]) -> Condition:
        return say.on_days(days)

    def after(self, token: Token) -> Condition:
        return say.after(say.clock_of(_text(token)))

    def before(self, token: Token) -> Condition:
        return say.before(say.clock_of(_text(token)))

    def between(self, start: Token, end: Token) -> Condition:
        return say.between(say.clock_of(_text(start)), say.clock_of(_text(end)))

    def on_date(self, token: Token) -> Condition:
        return say.on_date(_text(token))

    def money(self, first: Token, second: Token | None = None) -> str:
        if first.type == "SIGN":
            assert second is not None
            return say.money(str(second), str(first))
        return say.money(str(first), str(second or ""))

    def at(self, token: Token) -> str:
        return _text(token)

    def above(self, limit: str, at: str = "") -> Condition:
        return say.amount("above", limit, at)

    def below(self, limit: str, at: str = "") -> Condition:
        return say.amount("below", limit, at)

    def at_most(self, limit: str, at: str = "") -> Condition:
        return say.amount("max", limit, at)

    def at_least(self, limit: str, at: str = "") -> Condition:
        return say.amount("min", limit, at)

    def more_often(self, times: Token, period: Token) -> Condition:
        return say.more_often(int(say.number_of(_text(times))), _text(period).casefold())

    def left(self, *parts: Any) -> Condition:
        number, resource = (each for each in parts if isinstance(each, Token))
        return say.left(int(say.number_of(_text(number))), _text(resource).casefold())

    def place(self, token: Token) -> str:
        return _text(token)

    def to(self, *places: str) -> Condition:
        return say.recipients(list(places))

    def outside_of(self, *places: str) -> Condition:
        return say.recipients(list(places)).negated()

    def in_path(self, *tokens: Token) -> Condition:
        return say.paths([_text(each) for each in tokens])

    def outside_path(self, *tokens: Token) -> Condition:
        return say.paths([_text(each) for each in tokens]).negated()

    def at_host(self, *places: str) -> Condition:
        return say.hosts(list(places))

    def not_at_host(self, *places: str) -> Condition:
        return say.hosts(list(places)).negated()

    def programs(self, *names: str) -> Condition:
        return say.programs(list(names))

    def not_programs(self, *names: str) -> Condition:
        return say.programs(list(names)).negated()

    def argument(self, token: Token) -> str:
        return say.pointer_of(_text(token))

    def comes_from(self, *parts: Any) -> Condition:
        pointer, *kinds = (each for each in parts if isinstance(each, str))
        return say.comes_from(pointer, kinds)  # type: ignore[arg-type]

    def not_from(self, *parts: Any) -> Condition:
        return self.comes_from(*parts).negated()

    def value(self, token: Token) -> str:
        return _text(token)

    def equals(self, *parts: Any) -> Condition:
        pointer, *values = (each for each in parts if isinstance(each, str))
        return say.texts(pointer, values)

    def differs(self, *parts: Any) -> Condition:
        return self.equals(*parts).negated()

    def user(self) -> SourceKind:
        return "user"

    def contract(self) -> SourceKind:
        return "contract"

    def memory(self) -> SourceKind:
        return "memory"

    def text(self) -> SourceKind:
        return "text"

    def field(self) -> SourceKind:
        return "field"

    def system(self) -> SourceKind:
        return "system"

    def agent_source(self) -> SourceKind:
        return "agent"

    def none(self) -> SourceKind:
        return "none"


def _is_condition(part: Any) -> bool:
    return hasattr(part, "negated")
