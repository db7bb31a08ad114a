"""Builds the effective contract: fills in defaults by precedence, then keeps it within bounds.

Every effective field gets a `Choice` that says which layer decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import Field, JsonValue

from fmos.contract.bounds import CLASSES, Bounds, scopes_within
from fmos.contract.model import (
    WINDOWS,
    AgentContract,
    Budgets,
    Compute,
    Latency,
    Memory,
    ModelPolicy,
    Names,
    Observability,
    Rag,
    Scopes,
    Security,
    ServiceClass,
    is_open,
)
from fmos.contract.policy import Prefer
from fmos.contract.requirements import quantity
from fmos.ledger.model import RESOURCES
from fmos.types import Record

How = Literal["request", "must", "prefer", "default"]
_T = TypeVar("_T")
_REQUEST = "request"


class Choice(Record):
    """Who decided one effective field: the request, layers by name, or the built-in default."""

    field: str
    value: JsonValue
    how: How
    layers: tuple[str, ...] = Field(description="such as `request`, `tenant acme`, `admin`")


class Defaults(NamedTuple):
    """One layer's `prefer`; only the administrator's stands above the request."""

    label: str
    above_request: bool
    prefer: Prefer


class _Chosen(NamedTuple, Generic[_T]):
    """A value and who it comes from."""

    value: _T | None
    how: How
    label: str


class Narrowing:
    """One contract on its way to be the effective one; use it once."""

    def __init__(
        self, contract: AgentContract, bounds: Sequence[Bounds], defaults: Sequence[Defaults]
    ) -> None:
        self._request = contract
        self._bounds = bounds
        self._defaults = defaults
        self.why: list[Choice] = []
        self.refusals: list[str] = []

    def contract(self) -> AgentContract:
        """Return the effective contract, and fill in `why` and `refusals`."""
        asked = self._request
        update = {
            "class_": self._class(asked.class_),
            "capabilities": self._capabilities(asked),
            "compute": self._compute(asked.compute),
            "modelPolicy": self._models(asked.modelPolicy),
            "memory": self._memory(asked.memory),
            "security": self._security(asked.security),
            "observability": self._observability(asked.observability),
            "budgets": self._budgets(asked.budgets),
        }
        if asked.role:
            self._note("role", asked.role, "request", _REQUEST)
        return _changed(asked, update)

    def _class(self, asked: ServiceClass) -> ServiceClass:
        latency, deciders = asked.latency, list[str]()
        weaker = CLASSES[CLASSES.index(latency) :]
        for bounds in self._bounds:
            if latency not in bounds.latency:
                deciders.append(bounds.label)
        if deciders:
            latency = next(
                (name for name in weaker if all(name in each.latency for each in self._bounds)),
                Latency.DT,
            )
            self.refusals.append(
                f"the class {asked.latency.value} is not allowed by {' and '.join(deciders)}"
            )
        how: How = "must" if deciders else self._own(self._request, "class_")
        self._note("class.latency", latency.value, how, *(deciders or [_who(how)]))
        if asked.slo.model_fields_set:
            slo = asked.slo.model_dump(exclude_none=True)
            self._note("class.slo", slo, "request", _REQUEST)
        return _changed(asked, {"latency": latency})

    def _capabilities(self, asked: AgentContract) -> Names:
        denied = {name for each in self._bounds for name in each.deny} | {*asked.security.deny}
        deciders: list[str] = []
        kept = asked.capabilities
        for bounds in self._bounds:
            allowed = bounds.capabilities
            left = tuple(
                name
                for name in kept
                if name not in bounds.deny and (allowed is None or name in allowed)
            )
            if left != kept:
                deciders.append(bounds.label)
            kept = left
        kept = tuple(name for name in kept if name not in denied)
        how: How = "must" if deciders else "request"
        self._note("capabilities", list(kept), how, _REQUEST, *deciders)
        return kept

    def _compute(self, asked: Compute) -> Compute:
        return _changed(asked, {name: self._share(name, text) for name, text in asked})

    def _share(self, name: str, own: str | None) -> str | None:
        """Return the smallest share; one that cannot be read gives way to one that can."""
        chosen, label, how = own, _REQUEST, "request"
        for bounds in self._bounds:
            limit = getattr(bounds.compute, name)
            if limit is None or limit == chosen:
                continue
            if chosen is None or _exceeds(name, chosen, limit):
                chosen, label, how = limit, bounds.label, "must"
        if chosen is not None:
            self._note(f"compute.{name}", chosen, how, label)
        return chosen

    def _models(self, asked: ModelPolicy) -> ModelPolicy:
        added = tuple(scope for each in self._bounds for scope in each.models)
        lists = self._model_lists(asked, added)
        narrowed = ModelPolicy(allow=lists[0], also_allow=lists[1])
        deciders = [each.label for each in self._bounds if each.models]
        self._note(
            "modelPolicy.allow",
            [list(names) for names in narrowed.lists()] if lists[1] else list(narrowed.allow),
            "must" if deciders else self._own(asked, "allow"),
            *([_REQUEST] if asked.allow else []),
            *deciders,
        )
        preferred = self._preferred(asked, narrowed)
        context = self._limit(
            "modelPolicy.max_context_tokens",
            asked.max_context_tokens,
            lambda prefer: prefer.max_context_tokens,
            lambda bounds: bounds.max_context_tokens,
        )
        return _changed(
            asked,
            {
                "allow": narrowed.allow,
                "also_allow": narrowed.also_allow,
                "prefer": preferred,
                "max_context_tokens": context,
            },
        )

    def _model_lists(self, asked: ModelPolicy, added: Scopes) -> tuple[Names, Scopes]:
        others = sorted({scope for scope in (*asked.also_allow, *added) if "*" not in scope})
        first = asked.allow or next((scope for scope in others if scope), ())
        limits = ModelPolicy(also_allow=tuple(others))
        fit = tuple(name for name in first if is_open(name) or limits.allows(name)) or first
        return fit, tuple(scope for scope in others if not fit or scope != fit)

    def _preferred(self, asked: ModelPolicy, narrowed: ModelPolicy) -> Names:
        def fit(names: Names) -> Names | None:
            kept = tuple(name for name in names if is_open(name) or narrowed.allows(name))
            return kept or None

        chosen = self._chosen(fit(asked.prefer), lambda prefer: fit(prefer.models))
        if chosen.value:
            self._note("modelPolicy.prefer", list(chosen.value), chosen.how, chosen.label)
        return chosen.value or ()

    def _memory(self, asked: Memory) -> Memory:
        return _changed(
            asked,
            {
                "namespace": self._namespace(asked),
                "retention_days": self._limit(
                    "memory.retention_days",
                    asked.retention_days,
                    lambda prefer: prefer.retention_days,
                    lambda bounds: bounds.retention_days,
                ),
                "rag": self._rag(asked.rag),
            },
        )

    def _namespace(self, asked: Memory) -> str:
        own = asked.namespace if "namespace" in asked.model_fields_set else None
        chosen = self._chosen(own, lambda prefer: prefer.namespace)
        name, how, label = chosen.value or asked.namespace, chosen.how, chosen.label
        for bounds in self._bounds:
            within = bounds.namespace
            if within and name != within and not name.startswith(f"{within}."):
                name, how, label = within, "must", bounds.label
        self._note("memory.namespace", name, how, label)
        return name

    def _rag(self, asked: Rag) -> Rag:
        own = asked.top_k if "top_k" in asked.model_fields_set else None
        top_k = self._chosen(own, lambda prefer: prefer.rag.top_k)
        self._note("memory.rag.top_k", top_k.value or asked.top_k, top_k.how, top_k.label)
        return _changed(
            asked,
            {"top_k": top_k.value or asked.top_k, "require_grounding": self._grounding(asked)},
        )

    def _grounding(self, asked: Rag) -> bool:
        field = "memory.rag.require_grounding"
        demands = [each.label for each in self._bounds if each.require_grounding]
        if demands or asked.require_grounding:
            how: How = "request" if asked.require_grounding else "must"
            self._note(field, True, how, *([_REQUEST] if how == "request" else demands))
            return True
        own = False if "require_grounding" in asked.model_fields_set else None
        chosen = self._chosen(own, lambda prefer: prefer.rag.require_grounding)
        self._note(field, bool(chosen.value), chosen.how, chosen.label)
        return bool(chosen.value)

    def _security(self, asked: Security) -> Security:
        read = self._scope("read", asked.read_scopes(), [each.read for each in self._bounds])
        write = self._scope("write", asked.write_scopes(), [each.write for each in self._bounds])
        update: dict[str, Any] = {
            "consent_for": self._united(
                "security.consent_for", asked.consent_for, [e.consent_for for e in self._bounds]
            ),
            "sync_for": self._united(
                "security.sync_for", asked.sync_for, [e.sync_for for e in self._bounds]
            ),
            "deny": self._united("security.deny", asked.deny, [e.deny for e in self._bounds]),
            "paths": _changed(
                asked.paths,
                {"read": read[0], "also_read": read[1], "write": write[0], "also_write": write[1]},
            ),
        }
        return _changed(asked, update | self._recipients(asked))

    def _scope(self, verb: str, own: Scopes, added: Sequence[Scopes]) -> tuple[Names, Scopes]:
        first, rest = scopes_within(own, tuple(s for each in added for s in each), "/**")
        self._note_scopes(f"security.paths.{verb}", (first, *rest), own, added)
        return first, rest

    def _recipients(self, asked: Security) -> dict[str, Any]:
        own = asked.recipient_scopes()
        added = [each.recipients for each in self._bounds]
        first, rest = scopes_within(own, tuple(s for each in added for s in each), "*")
        limited = bool(own) or bool(rest) or first != ("*",)
        if not limited:
            return {}
        self._note_scopes("security.recipients", (first, *rest), own, added)
        return {"recipients": first, "also_recipients": rest}

    def _note_scopes(
        self, field: str, scopes: Scopes, own: Scopes, added: Sequence[Scopes]
    ) -> None:
        deciders = [
            bounds.label
            for bounds, each in zip(self._bounds, added, strict=True)
            if any(scope in scopes and scope not in own for scope in each)
        ]
        mine = [_REQUEST] if any(scope in scopes for scope in own) else []
        shown: JsonValue = (
            list(scopes[0]) if len(scopes) == 1 else [list(scope) for scope in scopes]
        )
        self._note(field, shown, "must" if deciders else "request", *mine, *deciders)

    def _observability(self, asked: Observability) -> Observability:
        demanded = next((each for each in reversed(self._bounds) if each.tracing), None)
        chosen = self._chosen(asked.tracing or None, lambda prefer: prefer.tracing or None)
        tracing, how, label = chosen.value or "", chosen.how, chosen.label
        if demanded is not None and demanded.tracing != tracing:
            tracing, how, label = demanded.tracing, "must", demanded.label
        if tracing:
            self._note("observability.tracing", tracing, how, label)
        return _changed(asked, {"tracing": tracing, "log_fields": self._logged(asked)})

    def _logged(self, asked: Observability) -> Names:
        never = {name for each in self._bounds for name in each.never_log}

        def fit(names: Names) -> Names | None:
            return tuple(name for name in names if name not in never) or None

        chosen = self._chosen(fit(asked.log_fields), lambda prefer: fit(prefer.log_fields))
        demanded = [fit(each.log_fields) or () for each in self._bounds]
        kept = _union(chosen.value or (), *demanded)
        deciders = [e.label for e in self._bounds if e.log_fields or e.never_log]
        if kept or deciders:
            own = [chosen.label] if chosen.value else []
            how: How = "must" if deciders else chosen.how
            self._note("observability.log_fields", list(kept), how, *own, *deciders)
        return kept

    def _budgets(self, asked: Budgets) -> Budgets:
        update: dict[str, Any] = self._amounts("", asked)
        for scope in ("agent", *WINDOWS):
            part = getattr(asked, scope)
            update[scope] = _changed(part, self._amounts(scope, part))
        return _changed(asked, update)

    def _amounts(self, scope: str, asked: Any) -> dict[str, int | None]:
        def within(budgets: Budgets, resource: str) -> int | None:
            part = getattr(budgets, scope) if scope else budgets
            return getattr(part, resource)

        prefix = f"budgets.{scope}." if scope else "budgets."
        return {
            resource: self._limit(
                prefix + resource,
                getattr(asked, resource),
                lambda prefer, name=resource: within(prefer.budgets, name),
                lambda bounds, name=resource: within(bounds.budgets, name),
            )
            for resource in RESOURCES
        }

    def _limit(
        self,
        field: str,
        own: int | None,
        default: Callable[[Prefer], int | None],
        bound: Callable[[Bounds], int | None],
    ) -> int | None:
        """Return the smallest of what is asked and allowed; an administrator cannot raise it."""
        value, how, label = self._chosen(own, default)
        if own is not None and value is not None and own < value:
            value, how, label = own, "request", _REQUEST
        for bounds in self._bounds:
            limit = bound(bounds)
            if limit is not None and (value is None or limit < value):
                value, how, label = limit, "must", bounds.label
        if value is not None:
            self._note(field, value, how, label)
        return value

    def _united(self, field: str, own: Names, added: Sequence[Names]) -> Names:
        names = _union(own, *added)
        deciders = [
            bounds.label
            for bounds, each in zip(self._bounds, added, strict=True)
            if any(name not in own for name in each)
        ]
        if names:
            mine = [_REQUEST] if own else []
            self._note(field, list(names), "must" if deciders else "request", *mine, *deciders)
        return names

    def _chosen(self, own: _T | None, default: Callable[[Prefer], _T | None]) -> _Chosen[_T]:
        """Return the value of the highest precedence: administrator, request, then the layers."""
        above = [each for each in self._defaults if each.above_request]
        below = [each for each in self._defaults if not each.above_request]
        for layer in above:
            value = default(layer.prefer)
            if value is not None:
                return _Chosen(value, "prefer", layer.label)
        if own is not None:
            return _Chosen(own, "request", _REQUEST)
        for layer in below:
            value = default(layer.prefer)
            if value is not None:
                return _Chosen(value, "prefer", layer.label)
        return _Chosen(None, "default", "default")

    def _own(self, record: Record, field: str) -> How:
        return "request" if field in record.model_fields_set else "default"

    def _note(self, field: str, value: JsonValue, how: How, *layers: str) -> None:
        named = tuple(dict.fromkeys(layers)) or (_who(how),)
        self.why.append(Choice(field=field, value=value, how=how, layers=named))


def _who(how: How) -> str:
    return "request" if how == "request" else "default"


def _exceeds(name: str, own: str, limit: str) -> bool:
    asked, allowed = quantity(name, own), quantity(name, limit)
    return asked is None or (allowed is not None and asked > allowed)


def _union(*lists: Iterable[str]) -> Names:
    return tuple(dict.fromkeys(name for names in lists for name in names))


_R = TypeVar("_R", bound=Record)


def _changed(record: _R, update: dict[str, Any]) -> _R:
    """Return the record with the fields that differ; one that is as it was stays itself."""
    differing = {name: value for name, value in update.items() if getattr(record, name) != value}
    return record.model_copy(update=differing) if differing else record
