"""The rules of lint: each looks at one valid document and says what is probably not meant."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping

from fmos.contract.binding_document import BindingDocument
from fmos.contract.doubts import Doubt
from fmos.contract.globs import in_system_area, normalise
from fmos.contract.model import AgentContract
from fmos.contract.parse import Document
from fmos.contract.policy import Policy
from fmos.contract.positions import Loc
from fmos.contract.promises import declared, enforced_by
from fmos.contract.requirements import quantity
from fmos.contract.trust_lint import doubts_about_rules
from fmos.contract.trust_policy import TrustPolicy
from fmos.contract.versions import parse_wanted
from fmos.contract.workflow import Step, Workflow
from fmos.errors import ArgumentError
from fmos.traps.manifest import ToolDescriptor
from fmos.types import TEMPLATE_BRANCH, OperationKind

#: Names that many contracts use; one that is nearly such a name is probably a slip.
_WELL_KNOWN = (
    *(kind.value for kind in OperationKind),
    "agent.pause", "audio.detect", "email.send", "process.run", "rag.retrieve", "summarize",
    "tools.plan", "web.fetch", "web.search",
)  # fmt: skip
_DIMENSIONS = (
    "model", "capabilities", "placement", "embed_store", "deadline_ms", "jitter_ms",
    "max_context_tokens",
)  # fmt: skip

#: Consent may be asked for these, which no contract grants: what a call does, or its kind.
_DERIVED = ("destructive", "tool.call", "model.generate")
_NEAR = 0.85


def doubts_about(
    document: Document, tools: Mapping[str, ToolDescriptor] | None = None
) -> Iterator[Doubt]:
    """Yield every doubt about a valid document; `tools` are those that rules may name."""
    if isinstance(document, AgentContract):
        yield from _about_contract(document, ())
        yield from _without_budgets(document)
        yield from _unenforced(document, ())
        yield from _reserved_name(document)
    elif isinstance(document, BindingDocument):
        yield from _about_binding(document)
    elif isinstance(document, Policy):
        yield from _about_policy(document)
    elif isinstance(document, TrustPolicy):
        yield from doubts_about_rules(document, tools)
    else:
        yield from _about_workflow(document)


def _about_contract(contract: AgentContract, prefix: Loc) -> Iterator[Doubt]:
    """Yield the doubts about a contract, whose fields stand below `prefix` in the document."""
    rules: tuple[Callable[[AgentContract], Iterator[Doubt]], ...] = (
        _slips,
        _granted_and_denied,
        _needless_consent,
        _odd_paths,
        _open_recipients,
        _unread_quantities,
    )
    for rule in rules:
        for doubt in rule(contract):
            yield doubt._replace(loc=(*prefix, *doubt.loc))


def _slips(contract: AgentContract) -> Iterator[Doubt]:
    security = contract.security
    yield from _near_names(contract.capabilities, ("capabilities",))
    yield from _near_names(security.consent_for, ("security", "consent_for"))
    yield from _near_names(security.deny, ("security", "deny"))


def _near_names(names: tuple[str, ...], loc: Loc) -> Iterator[Doubt]:
    for number, name in enumerate(names):
        near = _nearly(name, _WELL_KNOWN)
        if near:
            yield Doubt(
                "unknown-capability",
                (*loc, number),
                f"the capability {name!r} is not one that is usual",
                f"did you mean {near!r}?",
            )


def _nearly(name: str, known: tuple[str, ...], near: float = _NEAR) -> str:
    """Return the known name that this one is nearly, but not exactly."""
    if name in known:
        return ""
    lower = name.lower()
    for plain in (lower, lower.replace("_", ".").replace("-", ".")):
        found = difflib.get_close_matches(plain, known, n=1, cutoff=near)
        if found:
            return found[0]
    return ""


def _granted_and_denied(contract: AgentContract) -> Iterator[Doubt]:
    for number, name in enumerate(contract.security.deny):
        if name in contract.capabilities:
            yield Doubt(
                "granted-and-denied",
                ("security", "deny", number),
                f"{name!r} is both granted and denied; it is denied",
                "take it out of one of the lists",
            )


def _needless_consent(contract: AgentContract) -> Iterator[Doubt]:
    for number, name in enumerate(contract.security.consent_for):
        looks_granted = name in contract.capabilities or name in _DERIVED
        if not looks_granted and ("." in name or name in _WELL_KNOWN):
            yield Doubt(
                "consent-without-grant",
                ("security", "consent_for", number),
                f"consent is wanted for {name!r}, which is never granted: it is always denied",
                f"add {name!r} to `capabilities`, or leave the consent out",
            )


def _odd_paths(contract: AgentContract) -> Iterator[Doubt]:
    paths = contract.security.paths
    for verb, patterns in (("read", paths.read), ("write", paths.write)):
        loc: Loc = ("security", "paths", verb)
        if not patterns and contract.grants(f"fs.{verb}"):
            yield Doubt(
                "empty-scope",
                loc,
                f"'fs.{verb}' is granted, but no path is in the scope",
                f"list paths in `security.paths.{verb}`, or do not grant it",
            )
        yield from _odd_patterns(patterns, loc)


def _odd_patterns(patterns: tuple[str, ...], loc: Loc) -> Iterator[Doubt]:
    for number, pattern in enumerate(patterns):
        place = (*loc, number)
        if in_system_area(normalise(pattern)):
            yield Doubt(
                "system-area",
                place,
                f"{pattern!r} covers nothing: no agent reaches /.fmos by a file tool",
                "leave it out; memory, context and checkpoints have tools of their own",
            )
        elif pattern.endswith("/") and pattern.strip("/"):
            folder = pattern.rstrip("/")
            yield Doubt(
                "folder-alone",
                place,
                f"{pattern!r} covers the folder but nothing in it",
                f"write {folder + '/**'!r}",
            )
        elif "[" in pattern or "{" in pattern:
            yield Doubt(
                "literal-brackets",
                place,
                f"{pattern!r} has brackets, which stand for themselves",
                "use `*`, `?` and `**`, or one pattern for each name",
            )


def _open_recipients(contract: AgentContract) -> Iterator[Doubt]:
    sends = [name for name in contract.capabilities if name.endswith(".send")]
    if not sends:
        return
    hint = "list addresses, such as `*@team.example`"
    recipients = contract.security.recipients
    if recipients is None:
        message = f"{sends[0]!r} is granted and recipients are not limited"
        yield Doubt("any-recipient", ("security",), message, f"{hint} in `security.recipients`")
    for number, pattern in enumerate(recipients or ()):
        if not pattern.strip("*?@"):
            message = f"{sends[0]!r} is granted and {pattern!r} is any recipient"
            yield Doubt("any-recipient", ("security", "recipients", number), message, hint)


def _unread_quantities(contract: AgentContract) -> Iterator[Doubt]:
    for name, text in contract.compute:
        if text is not None and quantity(name, text) is None:
            yield Doubt(
                "unread-quantity",
                ("compute", name),
                f"{text!r} is not an amount of {name} that is understood, so it is not compared",
                "write cpu as 1 or 500m, mem as 2GiB or 512Mi, gpu as a whole number",
            )


def _without_budgets(contract: AgentContract) -> Iterator[Doubt]:
    budgets = contract.budgets
    if not (budgets.limits() or budgets.agent.limits() or budgets.windows()):
        yield Doubt(
            "no-budget",
            ("budgets",),
            "no budget: only the layers above limit what a session spends",
            "add `budgets: { tokens: ..., tool_calls: ... }`",
        )


def _unenforced(record: AgentContract | Policy, prefix: Loc) -> Iterator[Doubt]:
    for path in declared(record):
        field = ".".join(path)
        if enforced_by(field) is None:
            yield Doubt(
                "not-enforced",
                (*prefix, *path),
                f"the field {field!r} is read, but nothing enforces it yet",
                "do not rely on it",
            )


def _reserved_name(contract: AgentContract) -> Iterator[Doubt]:
    if contract.name == TEMPLATE_BRANCH:
        message = f"no agent can be called {contract.name!r}: it is a reserved branch"
        yield Doubt("reserved-name", ("name",), message, "choose another name")


def _about_binding(document: BindingDocument) -> Iterator[Doubt]:
    yield from _near_names(document.must.get("capabilities", ()), ("must", "capabilities"))
    for part in ("must", "prefer"):
        for name, values in getattr(document, part).items():
            near = _nearly(name, _DIMENSIONS, 0.75)
            if near:
                message = f"{name!r} is not a dimension that is usual"
                yield Doubt("unknown-dimension", (part, name), message, f"did you mean {near!r}?")
            yield from _broken_ranges(values, (part, name))
    for number, fallback in enumerate(document.allow_fallbacks):
        for name, value in fallback.substitute.items():
            loc = ("allow_fallbacks", number, "substitute", name)
            yield from _broken_ranges((value,) if isinstance(value, str) else (), loc)


def _broken_ranges(values: tuple[str, ...], loc: Loc) -> Iterator[Doubt]:
    for number, value in enumerate(values):
        try:
            parse_wanted(value)
        except ArgumentError as error:
            message = str(error).removesuffix(f"; {error.hint}")
            yield Doubt("broken-range", (*loc, number), message, error.hint, "error")


def _about_policy(policy: Policy) -> Iterator[Doubt]:
    must = policy.must
    for name in ("capabilities", "deny", "consent_for"):
        yield from _near_names(getattr(must, name) or (), ("must", name))
    for number, name in enumerate(must.deny):
        if name in (must.capabilities or ()):
            message = f"{name!r} is both allowed and denied; it is denied"
            loc = ("must", "deny", number)
            yield Doubt("granted-and-denied", loc, message, "take it out of one of the lists")
    yield from _odd_patterns(must.paths.read or (), ("must", "paths", "read"))
    yield from _odd_patterns(must.paths.write or (), ("must", "paths", "write"))
    yield from _unenforced(policy, ())
    if not must.model_fields_set and not policy.prefer.model_fields_set:
        message = "the policy has neither `must` nor `prefer`: it does nothing"
        yield Doubt("empty-policy", (), message, "add one of them, or remove the file")


def _about_workflow(workflow: Workflow) -> Iterator[Doubt]:
    produced: list[str] = []
    for number, step in enumerate(workflow.steps):
        if step.contract.model_fields_set:
            effective = workflow.contract_for(step.id)
            yield from _about_contract(effective, ("steps", number, "contract"))
        yield from _about_ports(step, number, tuple(produced))
        produced += step.out
        asked = step.policy.consent_for or step.contract.security.consent_for
        if step.needs_person and not asked:
            message = f"a person is asked in the step {step.id!r}, but not for what"
            hint = "add `policy: { consent_for: [...] }`"
            yield Doubt("consent-for-nothing", ("steps", number), message, hint)


def _about_ports(step: Step, number: int, produced: tuple[str, ...]) -> Iterator[Doubt]:
    """Yield inputs that are nearly, but not exactly, what an earlier step hands on."""
    for name in step.in_:
        near = [] if name in produced else difflib.get_close_matches(name, produced, 1, _NEAR)
        if near:
            message = f"no step before hands on {name!r}"
            hint = f"did you mean {near[0]!r}?"
            yield Doubt("unknown-input", ("steps", number, "in", name), message, hint)
