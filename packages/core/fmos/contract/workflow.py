"""The workflow: steps in order, each with a contract of its own, and what they hand on."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from fmos.canonical import content_digest
from fmos.contract.formats import CURRENT
from fmos.contract.model import AgentContract, ContractBody, Names
from fmos.errors import NotFoundError
from fmos.types import IDENTIFIER, Record

HITL = "HITL_approval"
_OPTIONAL_AGENT = r"^([A-Za-z0-9][A-Za-z0-9._@+-]{0,127})?$"


def _as_port(value: object) -> object:
    listed = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    if value is not None and not isinstance(value, str) and not listed:
        raise PydanticCustomError(
            "shape", "the name of a type, a list of them such as [html], or nothing"
        )
    return tuple(value) if isinstance(value, list | tuple) else value


#: The type of what is handed on; a list such as `[html]` is many of them, null is not said.
Port = Annotated[str | tuple[str, ...] | None, BeforeValidator(_as_port)]
Ports = dict[Annotated[str, Field(min_length=1, max_length=128)], Port]


class StepPolicies(Record):
    """What a step allows of its capabilities, refuses, and asks a person about."""

    allow: Names | None = Field(default=None, description="null: every capability of the step")
    deny: Names = ()
    consent_for: Names = ()


class StepContract(ContractBody):
    """The part of a contract that stands in a step."""

    policies: StepPolicies = StepPolicies()


class Step(Record):
    """One agent's work, or a person's approval (`type: HITL_approval`)."""

    id: str = Field(pattern=IDENTIFIER)
    type: Literal["agent", "HITL_approval"] = "agent"
    agent: str = Field(default="", pattern=_OPTIONAL_AGENT)
    bind: Literal["strict", "smooth", "flexible"] = "strict"
    contract: StepContract = StepContract()
    policy: StepPolicies = StepPolicies()
    in_: Ports = Field(default_factory=dict, alias="in")
    out: Ports = Field(default_factory=dict)

    @model_validator(mode="after")
    def _somebody_does_it(self) -> Step:
        if self.type == "agent" and not self.agent:
            raise ValueError(f"a step needs `agent: ...`, or `type: {HITL}` for a person")
        return self

    @property
    def needs_person(self) -> bool:
        """Whether the step waits for a person's approval."""
        return self.type == HITL


class Workflow(Record):
    """Steps in the order in which they run."""

    apiVersion: Literal["agentos/v0.2"] = CURRENT
    kind: Literal["Workflow"] = "Workflow"
    workflow: str = Field(pattern=IDENTIFIER, description="the workflow's name")
    description: str = ""
    steps: tuple[Step, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids_differ(self) -> Workflow:
        seen: set[str] = set()
        for number, step in enumerate(self.steps):
            if step.id in seen:
                raise PydanticCustomError(
                    "placed", "an id that no other step has", {"at": ["steps", number, "id"]}
                )
            seen.add(step.id)
        return self

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the workflow's canonical JSON, defaults included."""
        return content_digest(self.model_dump(mode="json", by_alias=True))

    def step(self, step_id: str) -> Step:
        """Return the step with this id.

        Raises:
            NotFoundError: if there is none.
        """
        for step in self.steps:
            if step.id == step_id:
                return step
        ids = ", ".join(step.id for step in self.steps)
        raise NotFoundError(
            f"the workflow {self.workflow!r} has no step {step_id!r}", hint=f"it has {ids}"
        )

    def contract_for(self, step_id: str) -> AgentContract:
        """Return the contract that a step's agent works under; a person's step has its own id.

        It has what the step writes: what the agent's contract in the home says more is not in it.

        Raises:
            NotFoundError: if there is no such step.
        """
        step = self.step(step_id)
        fields: dict[str, Any] = {
            name: getattr(step.contract, name)
            for name in step.contract.model_fields_set
            if name not in ("policies", "class_")
        }
        policies = (step.contract.policies, step.policy)
        security = step.contract.security.model_copy(
            update={
                "deny": _united(step.contract.security.deny, *(each.deny for each in policies)),
                "consent_for": _united(
                    step.contract.security.consent_for, *(each.consent_for for each in policies)
                ),
            }
        )
        fields |= {"security": security, "capabilities": _capabilities(step)}
        if "class_" in step.contract.model_fields_set:
            fields["class"] = step.contract.class_
        return AgentContract(
            apiVersion=CURRENT, kind="AgentContract", name=step.agent or step.id, **fields
        )


def _capabilities(step: Step) -> tuple[str, ...]:
    """Return what the step may use: each list that it gives must have it."""
    lists = [each for each in (step.contract.policies.allow, step.policy.allow) if each is not None]
    if "capabilities" in step.contract.model_fields_set:
        lists.insert(0, step.contract.capabilities)
    first = lists[0] if lists else ()
    return tuple(name for name in first if all(name in other for other in lists))


def _united(*lists: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in lists for name in names))
