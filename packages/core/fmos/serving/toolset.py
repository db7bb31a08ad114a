"""Declares a server's tools once, for every door.

A `Toolset` subclass has one method per tool, marked with `@tool`. The MCP door (serving/app.py)
registers them with a server; the in-process client calls them directly with the same validation.
Imports no MCP code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError, validate_call

from agentfs import AgentFS
from fmos.errors import ArgumentError, FmosError, NotFoundError, PrincipalError
from fmos.runtime.jobs import Job
from fmos.runtime.kernel import Kernel
from fmos.serving.acting import acting
from fmos.serving.failures import as_sentence
from fmos.serving.telling import tell
from fmos.serving.validation import describe_validation, shortened
from fmos.telemetry import served
from fmos.types import Principal

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a door needs to offer one tool; the four hints are MCP's tool annotations."""

    name: str
    title: str
    description: str
    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool


@dataclass(frozen=True, slots=True)
class Question:
    """What a person must be asked before a call can go on; `key` names it, and what it shows."""

    key: str
    message: str
    again: dict[str, Any]
    left_s: float


def tool(
    title: str,
    *,
    read_only: bool = False,
    destructive: bool = False,
    idempotent: bool = False,
    open_world: bool = False,
) -> Callable[[F], F]:
    """Mark a method as a tool. Its docstring is the description: it says when to use the tool."""

    def mark(function: F) -> F:
        description = inspect.cleandoc(function.__doc__ or "")
        spec = ToolSpec(
            name=function.__name__,
            title=title,
            description=description,
            read_only=read_only,
            destructive=destructive,
            idempotent=idempotent,
            open_world=open_world,
        )
        function.__fmos_tool__ = spec  # type: ignore[attr-defined]
        return function

    return mark


class Toolset:
    """A server's tools over one kernel. `launch` is whom this process was started for.

    A call is made for the principal that its door found out, else for the launch principal. Ids
    given as arguments must match it where it names one; tenant, application and role are never
    arguments.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    instructions: ClassVar[str] = ""

    def __init__(self, kernel: Kernel, launch: Principal | None = None) -> None:
        self.kernel = kernel
        self.launch = launch or Principal()
        self._calls: dict[str, Callable[..., Any]] = {}

    def principal(self, agent: str = "", session: str = "") -> Principal:
        """Return the principal of one call.

        Raises:
            PrincipalError: if an id differs from the one that this call, or server, is for.
            ArgumentError: if no agent is named, neither here nor there.
        """
        found = acting()
        known = found or self.launch
        for field, given, fixed in (
            ("agent", agent, known.agent),
            ("session", session, known.session),
        ):
            if given and fixed and given != fixed:
                shown = shortened(given)
                what = "this call is made for" if found else "this server was started for"
                way = "connect as" if found else "start a server for"
                raise PrincipalError(
                    f"{what} {field} {fixed!r} and cannot act for {shown!r}",
                    hint=f"leave {field!r} out, or {way} {shown!r}",
                )
        chosen = agent or known.agent
        if not chosen:
            raise ArgumentError(
                "argument 'agent' is missing",
                hint="give the agent's id, or start the server with FMOS_AGENT set",
            )
        if chosen == known.agent and session in ("", known.session):
            return known
        update = {"agent": chosen, "session": session or known.session}
        try:
            return Principal.model_validate({**known.model_dump(), **update})
        except ValidationError as error:
            raise ArgumentError(describe_validation(error)) from error

    def happened(self, who: Principal, event: str, value: Any) -> None:
        """Bring about what a session depends on and no tool does, when `fmos replay` runs it again.

        Such as a person's answer; a server passes over events that are not its own.
        """

    def question(self, name: str, answer: Any) -> Question | None:
        """Return what a client that can ask its user shall ask, given a tool's answer.

        `again` is what the call's arguments are then, where a person has answered.
        """
        return None

    def answered(self, question: Question, approve: bool, comment: str, by: str) -> None:
        """Take a person's answer to a question of this server.

        Raises:
            FmosError: if it does not count: it was answered before, or `by` may not.
        """

    def export_state(self, who: Principal) -> dict[str, Any]:
        """Return what the server keeps of an agent outside its branch, for an agent that moves."""
        return {}

    def import_state(self, who: Principal, state: dict[str, Any]) -> None:
        """Keep what `export_state` returned in the home that an agent comes from."""

    def index_branch(self, who: Principal, fs: AgentFS) -> None:
        """Index what came with an agent's branch, in the transaction that brings it."""

    def jobs(self) -> tuple[Job, ...]:
        """Return what this server wants done in the background."""
        return ()

    def tools(self) -> Iterator[tuple[ToolSpec, Callable[..., Any]]]:
        """Yield every tool with its bound method, in the order of their definition."""
        for cls in reversed(type(self).__mro__):
            for attribute in vars(cls).values():
                spec = getattr(attribute, "__fmos_tool__", None)
                if spec is not None:
                    yield spec, getattr(self, spec.name)

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Call a tool in process; validate the arguments and return JSON-able data.

        Raises:
            NotFoundError: if there is no such tool.
            ArgumentError: if the arguments do not fit, naming the first that does not.
            FmosError: for whatever else the tool raised, unforeseen errors included.
        """
        with served(name, "in process") as told:
            who = acting() or self.launch
            told.acts_for(who)
            answer = self._answer(name, arguments)
            tell(self.kernel, who, name, arguments, answer)
            return answer

    def _answer(self, name: str, arguments: dict[str, Any]) -> Any:
        call = self._calls.get(name)
        if call is None:
            call = self._calls[name] = self._validated(name)
        try:
            result = call(**arguments)
            if isinstance(result, BaseModel):
                return result.model_dump(mode="json")
            return TypeAdapter(Any).dump_python(result, mode="json")
        except FmosError:
            raise
        except Exception as error:
            # A record inside the tool that does not fit is not the caller's mistake.
            if isinstance(error, ValidationError) and error.title.endswith(f".{name}"):
                raise ArgumentError(describe_validation(error)) from error
            raise as_sentence(name, error) from error

    def _validated(self, name: str) -> Callable[..., Any]:
        for spec, method in self.tools():
            if spec.name == name:
                return validate_call(method)
        known = ", ".join(spec.name for spec, _ in self.tools())
        raise NotFoundError(f"the {self.name} server has no tool {name!r}", hint=f"it has {known}")
