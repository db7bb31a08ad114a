"""`FmosMiddleware`: hands a LangChain agent's model and tool calls to the session's governor.

Translates only: LangChain request -> operation, verdict -> what LangChain understands. What may
run, what it costs and what the model sees is decided by the servers behind `fmos.client`.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, TypeAlias
from uuid import uuid4

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    ToolCallRequest,
)
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from agentfs import AgentFS
from fmos.client import Client, Governor, ToolDescriptor
from fmos.errors import ArgumentError
from fmos.tokens import TokenCounter, default_counter
from fmos.types import (
    Decision,
    Operation,
    OperationKind,
    Outcome,
    OutcomeStatus,
    Reason,
    Step,
    Verdict,
    new_id,
)
from fmos_langgraph import messages as translate
from fmos_langgraph.reader import NAME as READER
from fmos_langgraph.reader import make_reader
from fmos_langgraph.trials import Trials, done_on_fork

ToolResult: TypeAlias = ToolMessage | Command[Any]
ModelResult: TypeAlias = ModelResponse[Any] | AIMessage | ExtendedModelResponse[Any]

#: Answers a question of the gate: True to run the call (the gate is asked again and must agree),
#: False to refuse it, or the result where the answerer ran the call itself.
Answer: TypeAlias = bool | str | ToolResult
Ask: TypeAlias = Callable[[Operation, Verdict, ToolCallRequest], Answer | Awaitable[Answer]]

#: Makes an agent's tools over the files of a fork, so that a call can be tried there.
OnFork: TypeAlias = Callable[[AgentFS], Iterable[BaseTool]]

#: Tells the gate a person's decision: approval id, approved or not, who decided, and why.
Decide: TypeAlias = Callable[[str, bool, str, str], object]

_MESSAGE_TOKENS = 4


@dataclass(frozen=True, slots=True)
class _ModelCall:
    """A model call between its admission and its settlement."""

    operation: Operation
    request: ModelRequest[Any]
    input_tokens: int
    marked: Sequence[BaseMessage]
    refusal: str = ""


class FmosMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Governs one session of an agent made with `create_agent`; sync and async.

    A denied tool call becomes a `ToolMessage` with status "error" and the reason, and the agent
    goes on; so does a call that the gate could not judge. A model call without budget is not made:
    an `AIMessage` with the reason ends the run. Long tool outputs reach the model as stubs, which
    the tool `context_read` (added to the agent) pages in.

    Args:
        client: From `fmos.client.connect`, for a principal with an agent and a session.
        tools: What the agent's tools do; a tool that is not described is denied.
        on_step: Called with one `Step` per governed operation.
        on_ask: Answers the gate's questions in place of an interrupt; see `Answer`.
        decide: Where an approval given through `Command(resume=...)` is recorded, such as
            `fmos_trust.approvals.Approvals(kernel).decide`. Without it the person approves with
            `fmos approve ID` before resuming.
        files: The agent's own files, as its tools use them; with `on_fork`.
        on_fork: Makes those tools that work on nothing but these files, over any handle. A call of
            one of them that must be asked about runs on a fork first; the question shows the
            difference, and a yes brings that about without running the tool again. The effect of
            any other tool happens when it is approved, and the question says so.
        max_context_tokens: The window that messages must fit; the contract's figure.
        threshold_bytes: Longer tool outputs are paged out.
        max_output_tokens: What is reserved for an answer, beside the tokens sent.
    """

    def __init__(
        self,
        client: Client,
        tools: Iterable[ToolDescriptor] = (),
        on_step: Callable[[Step], None] | None = None,
        *,
        on_ask: Ask | None = None,
        decide: Decide | None = None,
        files: AgentFS | None = None,
        on_fork: OnFork | None = None,
        max_context_tokens: int = 16_000,
        threshold_bytes: int = 8_192,
        max_output_tokens: int = 1_024,
        counter: TokenCounter | None = None,
    ) -> None:
        super().__init__()
        if not client.principal.session:
            raise ArgumentError(
                "the client's principal names no session",
                hint="connect with Principal(agent=..., session=...)",
            )
        self.governor = Governor(client, on_step, obligations=("effect_done",))
        self._trials = Trials(self.governor, files, on_fork)
        self._descriptors = tuple(tools)
        own_reader = all(descriptor.name != READER for descriptor in self._descriptors)
        self.tools: Sequence[BaseTool] = [make_reader(client)] if own_reader else []
        self._principal = client.principal
        self._session = client.principal.session
        self._on_step = on_step
        self._on_ask = on_ask
        self._decide = decide
        self._window = {"max_tokens": max_context_tokens, "threshold_bytes": threshold_bytes}
        self._max_output_tokens = max_output_tokens
        self._counter = counter
        self._system: str | None = None
        self._registered = False
        self._asked: dict[str, str] = {}

    def before_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Open the session and take in the messages that are new to it."""
        self._ready()
        _, fresh = self._taken_in(state["messages"])
        return {"messages": fresh} if fresh else None

    async def abefore_agent(
        self, state: AgentState[Any], runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """Do what `before_agent` does, without blocking the event loop."""
        return await asyncio.to_thread(self.before_agent, state, runtime)

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelResult:
        """Compose the context, reserve the budget, call the model and settle what it used."""
        call = self._admit(request)
        if call.refusal:
            return _refused_model(call)
        try:
            with self.governor.running(call.operation):
                response = handler(call.request)
        except BaseException:  # Ctrl-C too: what is not given back stays reserved
            self.governor.cancelled(call.operation)
            raise
        return self._settled(call, response)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResult:
        """Do what `wrap_model_call` does, without blocking the event loop."""
        call = await asyncio.to_thread(self._admit, request)
        if call.refusal:
            return _refused_model(call)
        try:
            with self.governor.running(call.operation):
                response = await handler(call.request)
        except BaseException:  # a time-out cancels: what is not given back stays reserved
            await asyncio.shield(asyncio.to_thread(self.governor.cancelled, call.operation))
            raise
        return await asyncio.to_thread(self._settled, call, response)

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolResult]
    ) -> ToolResult:
        """Put a tool call to the gate; run it, refuse it, or ask a person."""
        operation = self._operation(request)
        if self._is_reader(request):
            start = perf_counter()
            return self._paged_in(operation, request, handler(request), start)
        verdict = self._first_verdict(operation, request)
        if verdict.decision is Decision.ASK:
            verdict = self._trials.tried(operation, verdict, request)
            consent = self._consent(operation, verdict, request)
            if not isinstance(consent, Verdict):
                return self._closed(operation, request, consent, perf_counter())
            verdict = consent
        if not verdict.allowed:
            return _refused_tool(request, verdict)
        start = perf_counter()
        done = done_on_fork(verdict)
        if done is not None:
            return self._closed(operation, request, _tool_message(request, done), start)
        try:
            with self.governor.running(operation):
                result = handler(_with_arguments(request, verdict))
        except GraphBubbleUp:
            raise
        except BaseException as error:
            self._failed(operation, request, error, start)
            raise
        return self._closed(operation, request, result, start)

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolResult]],
    ) -> ToolResult:
        """Do what `wrap_tool_call` does, without blocking the event loop."""
        operation = self._operation(request)
        if self._is_reader(request):
            start = perf_counter()
            result = await handler(request)
            return await asyncio.to_thread(self._paged_in, operation, request, result, start)
        verdict = await asyncio.to_thread(self._first_verdict, operation, request)
        if verdict.decision is Decision.ASK:
            verdict = await asyncio.to_thread(self._trials.tried, operation, verdict, request)
            consent = await self._aconsent(operation, verdict, request)
            if not isinstance(consent, Verdict):
                return await asyncio.to_thread(
                    self._closed, operation, request, consent, perf_counter()
                )
            verdict = consent
        if not verdict.allowed:
            return _refused_tool(request, verdict)
        start = perf_counter()
        done = done_on_fork(verdict)
        if done is not None:
            message = _tool_message(request, done)
            return await asyncio.to_thread(self._closed, operation, request, message, start)
        try:
            with self.governor.running(operation):
                result = await handler(_with_arguments(request, verdict))
        except GraphBubbleUp:
            raise
        except BaseException as error:
            await asyncio.shield(asyncio.to_thread(self._failed, operation, request, error, start))
            raise
        return await asyncio.to_thread(self._closed, operation, request, result, start)

    def after_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> None:
        """Hand over the observations that still wait for a trap."""
        self.governor.flush()

    async def aafter_agent(self, state: AgentState[Any], runtime: Runtime[Any]) -> None:
        """Do what `after_agent` does, without blocking the event loop."""
        await self.governor.aflush()

    def _ready(self) -> None:
        """Register the tools once and open the session; opening it again continues it."""
        if not self._registered:
            self.governor.register_tools(self._descriptors)
            self._registered = True
        self.governor.open_session(self._system or "", **self._window)

    def _taken_in(
        self, messages: Sequence[BaseMessage]
    ) -> tuple[list[AnyMessage], list[BaseMessage]]:
        """Append what the session does not have; return all messages marked, and the new ones."""
        everything: list[Any] = []
        fresh: list[BaseMessage] = []
        for message in messages:
            if translate.item_of(message, self._session) is None:
                message = self._appended(message)
                fresh.append(message)
            everything.append(message)
        return everything, fresh

    def _appended(self, message: BaseMessage) -> BaseMessage:
        item = self.governor.append(
            translate.role(message),
            translate.text(message),
            name=message.name or "",
            call_id=translate.call_id(message),
        )
        named = message if message.id else message.model_copy(update={"id": str(uuid4())})
        return translate.marked(named, self._session, item["item"])

    def _admit(self, request: ModelRequest[Any]) -> _ModelCall:
        """Return the call with the messages that fit, or with the reason why it is refused."""
        system = request.system_prompt or ""
        if system != self._system:
            self._system = system
            self._ready()
        everything, fresh = self._taken_in(request.messages)
        items = [translate.item_of(message, self._session) or "" for message in everything]
        composed = self.governor.compose(items=items) if items else []
        fitting = request.override(
            messages=translate.fitted(everything, self._session, composed),
            system_message=translate.with_note(request.system_message, translate.notes(composed)),
        )
        tokens = self._input_tokens(fitting)
        operation = Operation(
            kind=OperationKind.MODEL_GENERATE,
            name=_model_name(request),
            principal=self._principal,
            cost_estimate={"tokens": tokens + self._max_output_tokens},
        )
        verdict = self.governor.before_model(operation)
        refusal = "" if verdict.allowed else verdict.reason or "no reason given"
        return _ModelCall(operation, fitting, tokens, fresh, refusal)

    def _settled(self, call: _ModelCall, response: ModelResponse[Any]) -> ModelResult:
        """Settle what a model call used and take its messages in."""
        self.governor.after_model(call.operation, self._used(call, response))
        answer = ModelResponse(
            result=[self._appended(message) for message in response.result],
            structured_response=response.structured_response,
        )
        return _with_marks(answer, call.marked)

    def _used(self, call: _ModelCall, response: ModelResponse[Any]) -> dict[str, int]:
        """Return the tokens that the provider reports, or an estimate where it does not."""
        reported = [
            message.usage_metadata
            for message in response.result
            if isinstance(message, AIMessage) and message.usage_metadata
        ]
        if reported:
            return {
                "tokens": sum(each["total_tokens"] for each in reported),
                "input_tokens": sum(each["input_tokens"] for each in reported),
                "output_tokens": sum(each["output_tokens"] for each in reported),
            }
        given = call.input_tokens
        made = sum(self._count(translate.text(m)) for m in response.result)
        return {"tokens": given + made, "input_tokens": given, "output_tokens": made}

    def _input_tokens(self, request: ModelRequest[Any]) -> int:
        tools = [
            tool if isinstance(tool, dict) else convert_to_openai_tool(tool)
            for tool in request.tools
        ]
        texts = [request.system_prompt or "", json.dumps(tools, default=str) if tools else ""]
        texts += [translate.text(message) for message in request.messages]
        return sum(self._count(text) for text in texts if text)

    def _count(self, text: str) -> int:
        if self._counter is None:
            self._counter = default_counter()
        return _MESSAGE_TOKENS + self._counter.count(text)

    def _operation(self, request: ToolCallRequest) -> Operation:
        call = request.tool_call
        return Operation(
            id=_operation_id(request),
            kind=OperationKind.TOOL_CALL,
            name=call["name"],
            arguments=call["args"],
            principal=self._principal,
        )

    def _is_reader(self, request: ToolCallRequest) -> bool:
        return bool(self.tools) and request.tool is self.tools[0]

    def _first_verdict(self, operation: Operation, request: ToolCallRequest) -> Verdict:
        """Return the gate's verdict on a call; it would be on another tool if names differ."""
        tool = request.tool
        if tool is not None and tool.name != operation.name:
            message = f"the call names {operation.name!r} but would run {tool.name!r}"
            return _denial(operation, "tool.swapped", message)
        return self._judged(operation)

    def _judged(self, operation: Operation, approval: str = "") -> Verdict:
        """Return the gate's verdict; a gate that fails has said no."""
        try:
            if not self._registered:
                self._ready()
            return self.governor.before_tool(operation, approval=approval)
        except Exception as error:
            return _denial(operation, "gate.failed", f"the trust gate could not judge it: {error}")

    def _consent(
        self, operation: Operation, verdict: Verdict, request: ToolCallRequest
    ) -> Verdict | ToolResult:
        """Ask a person and return the gate's last word, or the result of who ran the call."""
        if self._on_ask is None:
            return self._interrupted(operation, verdict)
        try:
            answer = self._on_ask(operation, verdict, request)
        except GraphBubbleUp:
            raise
        except Exception as error:
            return _denial(operation, "ask.failed", f"nobody could be asked: {error}")
        return self._answered(operation, verdict, request, answer)

    async def _aconsent(
        self, operation: Operation, verdict: Verdict, request: ToolCallRequest
    ) -> Verdict | ToolResult:
        if self._on_ask is None or not inspect.iscoroutinefunction(self._on_ask):
            return await asyncio.to_thread(self._consent, operation, verdict, request)
        try:
            answer = await self._on_ask(operation, verdict, request)
        except GraphBubbleUp:
            raise
        except Exception as error:
            return _denial(operation, "ask.failed", f"nobody could be asked: {error}")
        return await asyncio.to_thread(self._answered, operation, verdict, request, answer)

    def _answered(
        self, operation: Operation, verdict: Verdict, request: ToolCallRequest, answer: object
    ) -> Verdict | ToolResult:
        if answer is True:
            return self._judged(operation, verdict.approval or "")
        if isinstance(answer, str):
            return _tool_message(request, answer)
        if isinstance(answer, ToolMessage | Command):
            return answer
        if inspect.iscoroutine(answer):
            answer.close()
            return _denial(operation, "ask.failed", "on_ask is async: run the agent with ainvoke")
        return _denial(operation, "ask.refused", "a person said no to this call")

    def _interrupted(self, operation: Operation, verdict: Verdict) -> Verdict:
        """Stop the run until somebody resumes it with an answer, then ask the gate again.

        A resumed run comes here again from the start: nothing before `interrupt` has an effect.
        """
        waiting = self._asked.setdefault(operation.id, verdict.approval or "")
        effect = self._trials.shown(verdict)
        answer = interrupt({**_question(operation, verdict, waiting), "effect": effect})
        said = answer if isinstance(answer, Mapping) else {"approved": answer is True}
        approved = said.get("approved") is True
        reason = str(said.get("reason", ""))
        approval = str(said.get("approval") or waiting)
        if self._decide is not None:
            approval = verdict.approval or ""
            try:
                approver = str(said.get("approver", "langgraph:resume"))
                self._decide(approval, approved, approver, reason)
            except Exception as error:
                return _denial(operation, "ask.failed", f"the answer was not recorded: {error}")
        if approved:
            return self._judged(operation, approval)
        why = f"a person said no to this call{f' ({reason})' if reason else ''}"
        return _denial(operation, "ask.refused", why)

    def _closed(
        self, operation: Operation, request: ToolCallRequest, result: ToolResult, start: float
    ) -> ToolResult:
        """Close a call that ran; return its result as the model shall see it."""
        call = request.tool_call["id"] or operation.id
        message = translate.tool_message(result, call)
        text = str(message.text) if message is not None else ""
        failed = message is not None and message.status == "error"
        outcome = Outcome(
            operation=operation.id,
            status=OutcomeStatus.FAILED if failed else OutcomeStatus.OK,
            error=text[:500] if failed else "",
            duration_ms=(perf_counter() - start) * 1000,
        )
        item = self.governor.close_tool(operation, outcome, text, call_id=call)
        if message is None:
            return result
        return self._shown(result, message, item)

    def _failed(
        self, operation: Operation, request: ToolCallRequest, error: BaseException, start: float
    ) -> None:
        """Close a call whose tool raised or was cancelled; the tool's own error stays the error."""
        said = f"{type(error).__name__}: {error}"
        outcome = Outcome(
            operation=operation.id,
            status=OutcomeStatus.FAILED,
            error=said[:500],
            duration_ms=(perf_counter() - start) * 1000,
        )
        try:
            call = request.tool_call["id"] or operation.id
            self.governor.close_tool(operation, outcome, said, call_id=call)
            self.governor.flush()  # an error may end the run, and then no `after_agent` follows
        except Exception as failure:
            error.add_note(f"fmos: the failed call was not recorded: {failure}")

    def _paged_in(
        self, operation: Operation, request: ToolCallRequest, result: ToolResult, start: float
    ) -> ToolResult:
        """Take in what `context_read` returned: text of this session, so no trap is needed."""
        message = translate.tool_message(result, request.tool_call["id"] or "")
        if message is not None:
            item = self.governor.append(
                "tool", str(message.text), name=READER, call_id=message.tool_call_id
            )
            result = self._shown(result, message, item)
        if self._on_step is not None:
            self._on_step(
                Step(
                    operation=f"{operation.kind} {operation.name}",
                    id=operation.id,
                    path="fast",
                    verdict=Decision.ALLOW,
                    added_ms=round((perf_counter() - start) * 1000, 3),
                )
            )
        return result

    def _shown(
        self, result: ToolResult, message: ToolMessage, item: Mapping[str, Any]
    ) -> ToolResult:
        shown = translate.with_text(message, str(item["text"]))
        marked = translate.marked(shown, self._session, str(item["item"]))
        return translate.with_tool_message(result, message, marked)


def _refused_model(call: _ModelCall) -> ModelResult:
    """Return the message that stands in for the answer of a model that was not called."""
    message = AIMessage(
        f"The model was not called: {call.refusal}",
        response_metadata={"fmos_refused": call.refusal},
    )
    return _with_marks(ModelResponse(result=[message]), call.marked)


def _with_marks(response: ModelResponse[Any], marked: Sequence[BaseMessage]) -> ModelResult:
    if not marked:
        return response
    return ExtendedModelResponse(response, Command(update={"messages": list(marked)}))


def _model_name(request: ModelRequest[Any]) -> str:
    model = request.model
    for attribute in ("model_name", "model"):
        if isinstance(name := getattr(model, attribute, None), str) and name:
            return name
    return type(model).__name__


def _operation_id(request: ToolCallRequest) -> str:
    """Return an id that is the same when LangGraph runs the same task again after an interrupt."""
    config = getattr(request.runtime, "config", None) or {}
    asked = config.get("configurable", {})
    task, call = asked.get("checkpoint_ns"), request.tool_call["id"]
    if not task or not call:
        return new_id()
    key = json.dumps([str(asked.get("thread_id", "")), task, call])
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _question(operation: Operation, verdict: Verdict, approval: str) -> dict[str, Any]:
    """Return what the person who resumes the run is shown."""
    return {
        "kind": "fmos.approval",
        "approval": approval,
        "tool": operation.name,
        "arguments": operation.arguments,
        "reason": verdict.reason,
        "obligations": [obligation.model_dump(mode="json") for obligation in verdict.obligations],
        "operation": operation.id,
    }


def _denial(operation: Operation, code: str, message: str) -> Verdict:
    return Verdict(
        operation=operation.id,
        decision=Decision.DENY,
        reasons=(Reason(code=code, message=message, rule="fmos_langgraph"),),
    )


def _refused_tool(request: ToolCallRequest, verdict: Verdict) -> ToolMessage:
    if verdict.decision is Decision.ASK:
        waits = f"it waits for a person (approval {verdict.approval})"
        return _tool_message(request, f"Not run: {waits}: {verdict.reason}", status="error")
    return _tool_message(request, f"Denied: {verdict.reason}", status="error")


def _tool_message(
    request: ToolCallRequest, text: str, status: Literal["success", "error"] = "success"
) -> ToolMessage:
    call = request.tool_call
    return ToolMessage(text, name=call["name"], tool_call_id=call["id"] or "", status=status)


def _with_arguments(request: ToolCallRequest, verdict: Verdict) -> ToolCallRequest:
    if verdict.arguments is None:
        return request
    return request.override(tool_call={**request.tool_call, "args": verdict.arguments})
