"""The spans: which there are, what they say, whose children they are, and what they never say."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the extra `otel`")

from opentelemetry import trace as traces
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.core import otlp_lines

from fmos import telemetry
from fmos.client import Governor, ToolDescriptor, connect
from fmos.errors import BudgetExceededError
from fmos.runtime.kernel import Kernel
from fmos.settings import TelemetrySettings
from fmos.telemetry import names
from fmos.types import (
    Decision,
    Observation,
    Operation,
    OperationKind,
    Outcome,
    OutcomeStatus,
    Principal,
)
from fmos_trust.approvals import Approvals

WHO = Principal(agent="ada", session="s1")
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
class: { latency: SRT }
capabilities: [ "fs.read", "fs.write", "process.run" ]
security:
  consent_for: ["fs.write"]
  paths: { read: ["/work/**"], write: ["/work/**"] }
budgets: { tokens: 1000 }
observability: { tracing: "opentelemetry", log_fields: ["prompt", "arguments", "sources"] }
"""
TOOLS = (
    ToolDescriptor(name="read", capability="fs.read", effect="read", roles={"path": "path"}),
    ToolDescriptor(name="write", capability="fs.write", effect="write", roles={"path": "path"}),
    ToolDescriptor(
        name="run", capability="process.run", effect="execute", roles={"command": "command"}
    ),
)
SECRET = "AKIA2E0A8F3B244C9986"


class Told:
    """What a process told OpenTelemetry, through providers that the application made."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def all(self) -> list[ReadableSpan]:
        """Return every span that has ended."""
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the spans of a name."""
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """Return the only span of a name."""
        (span,) = self.named(name)
        return span


@pytest.fixture
def told() -> Iterator[Told]:
    """Telemetry that goes to the application's own providers."""
    found = Told()
    telemetry.attach(found.provider)
    yield found
    telemetry.shutdown(0)


@pytest.fixture
def governor(kernel: Kernel) -> Governor:
    """A governed session of `ada`."""
    kernel.contracts.save(CONTRACT)
    return started(kernel)


def started(kernel: Kernel) -> Governor:
    """Open a session of `ada` and let the user speak."""
    governor = Governor(connect(WHO, kernel=kernel))
    governor.register_tools(TOOLS)
    governor.open_session("be brief")
    governor.append("user", "hello")
    return governor


def tool(name: str, **arguments: Any) -> Operation:
    """Return a call of a tool."""
    return Operation(kind=OperationKind.TOOL_CALL, name=name, arguments=arguments, principal=WHO)


def model(name: str = "gpt-5", **estimate: int) -> Operation:
    """Return a call of a model."""
    kind = OperationKind.MODEL_GENERATE
    return Operation(kind=kind, name=name, principal=WHO, cost_estimate=estimate)


def done(operation: Operation, error: str = "") -> Outcome:
    """Return how a call ended."""
    status = OutcomeStatus.FAILED if error else OutcomeStatus.OK
    return Outcome(operation=operation.id, status=status, error=error, duration_ms=3.0)


def said(span: ReadableSpan, name: str) -> Any:
    """Return an attribute of a span."""
    return (span.attributes or {}).get(name)


def ids(span: ReadableSpan) -> tuple[str, str]:
    """Return the trace and span id of a span, in hex."""
    own = span.get_span_context()
    assert own is not None
    return f"{own.trace_id:032x}", f"{own.span_id:016x}"


def is_below(span: ReadableSpan, above: ReadableSpan) -> bool:
    """Return whether a span is a direct child of another."""
    return span.parent is not None and (
        f"{span.parent.trace_id:032x}",
        f"{span.parent.span_id:016x}",
    ) == ids(above)


def intents(kernel: Kernel) -> list[Any]:
    """Return the intent rows of the journal."""
    return list(kernel.volume("default").journal(operation="op.intent"))


def test_a_trapped_call_is_a_chain_from_the_turn_to_its_row(
    told: Told, governor: Governor, kernel: Kernel
) -> None:
    """Turn, tool call, served check and decision are parent and child; the row has their ids."""
    call = tool("run", command="make test")
    assert governor.before_tool(call).allowed
    governor.after_tool(call, done(call), "built", call_id="c1")
    governor.flush()
    turn, tool_span = told.one("invoke_agent ada"), told.one("execute_tool run")
    check, decision = told.one("tools/call trust_check"), told.one("tool.call run")
    assert turn.parent is None
    assert is_below(tool_span, turn)
    assert is_below(check, tool_span)
    assert is_below(decision, check)
    (row,) = intents(kernel)
    assert (row.detail["trace"], row.detail["span"]) == ids(decision)
    assert said(decision, names.JOURNAL_SEQ) == row.seq
    assert ("op.intent", row.seq) in [
        (event.name, (event.attributes or {})[names.JOURNAL_SEQ]) for event in decision.events
    ]
    assert check.kind is traces.SpanKind.SERVER


def test_an_operation_says_who_asked_and_what_was_decided(
    told: Told, governor: Governor, kernel: Kernel
) -> None:
    """Tenant, agent, session, id, kind, decision, policy and path are on both its spans."""
    call = tool("run", command="make test")
    policy = governor.before_tool(call).policy
    governor.after_tool(call, done(call), "built", call_id="c1")
    for span in (told.one("execute_tool run"), told.one("tool.call run")):
        assert said(span, names.TENANT) == "default"
        assert said(span, names.AGENT) == "ada"
        assert said(span, names.SESSION) == "s1"
        assert said(span, names.OPERATION_ID) == call.id
        assert said(span, names.OPERATION_KIND) == "tool.call"
        assert said(span, names.DECISION) == "allow"
        assert said(span, names.POLICY) == policy != ""
        assert said(span, names.PATH) == "slow"
    span = told.one("execute_tool run")
    assert said(span, names.OPERATION_NAME) == "execute_tool"
    assert said(span, names.TOOL_NAME) == "run"
    assert said(span, names.TOOL_CALL_ID) == "c1"
    assert said(span, names.TOOL_MS) == 3.0
    assert said(span, names.ADDED_MS) > 0


def test_a_call_on_the_fast_path_has_its_spans_as_well(
    told: Told, governor: Governor, kernel: Kernel
) -> None:
    """What ran without a trap is noted later, as a child of its own span, with a link to how."""
    governor.before_tool(tool("run", command="ls"))  # fetches the table
    call = tool("read", path="/work/a")
    assert governor.before_tool(call).reasons[0].code == "trap.innocuous"
    governor.after_tool(call, done(call), "text")
    governor.flush()
    tool_span, decision = told.one("execute_tool read"), told.one("tool.call read")
    assert (said(tool_span, names.PATH), said(decision, names.PATH)) == ("fast", "fast")
    assert is_below(decision, tool_span)
    (link,) = decision.links
    assert link.context.span_id == (told.one("tools/call trust_observe").context.span_id)


def test_a_model_call_says_what_it_used(told: Told, governor: Governor) -> None:
    """A chat span has model, provider, tokens, tokens a second and the time to the first answer."""
    for name in ("claude-sonnet-4", "own-model"):
        call = model(name)
        assert governor.before_model(call).allowed
        time.sleep(0.002)  # what the model takes
        governor.after_model(call, {"tokens": 12, "input_tokens": 7, "output_tokens": 5})
    governor.flush()
    span, other = told.one("chat claude-sonnet-4"), told.one("chat own-model")
    assert span.kind is traces.SpanKind.CLIENT
    assert said(span, names.OPERATION_NAME) == "chat"
    assert said(span, names.REQUEST_MODEL) == "claude-sonnet-4"
    assert [said(each, names.PROVIDER) for each in (span, other)] == ["anthropic", "_OTHER"]
    assert (said(span, names.INPUT_TOKENS), said(span, names.OUTPUT_TOKENS)) == (7, 5)
    assert said(span, names.TOKENS_PER_SECOND) > 0
    assert said(span, names.ONSET_MS) == said(told.one("invoke_agent ada"), names.ONSET_MS) > 0
    assert said(other, names.ONSET_MS) is None, "only the first answer of a turn has an onset"


def test_a_denied_call_ends_with_its_denial(told: Told, governor: Governor) -> None:
    """A call that may not run has its spans too, with the decision and its reasons."""
    call = tool("nothing", x=1)
    assert governor.before_tool(call).decision is Decision.DENY
    assert said(told.one("execute_tool nothing"), names.DECISION) == "deny"
    assert said(told.one("tool.call nothing"), names.REASONS)


def test_a_failed_call_names_the_error_and_nothing_of_it(told: Told, governor: Governor) -> None:
    """An error's class is told, and its text is not."""
    call = tool("run", command="make test")
    governor.before_tool(call)
    governor.after_tool(call, done(call, f"OSError: {SECRET}"), f"OSError: {SECRET}")
    span = told.one("execute_tool run")
    assert said(span, names.ERROR_TYPE) == "OSError"
    assert span.status.status_code is traces.StatusCode.ERROR
    assert SECRET not in everything(told)


def test_a_cancelled_call_ends(told: Told, governor: Governor) -> None:
    """A call that was cut off has a span that says so, once."""
    call = model()
    governor.before_model(call)
    governor.cancelled(call)
    governor.cancelled(call)
    assert said(told.one("chat gpt-5"), names.ERROR_TYPE) == "cancelled"


def test_a_call_that_reaches_no_server_ends(told: Told, kernel: Kernel) -> None:
    """A server that fails leaves no span open."""
    governor = Governor(connect(WHO, kernel=kernel))
    (kernel.home.contracts / "ada.yaml").write_text("kind: [broken")
    call = tool("run", command="ls")
    governor.before_tool(call)
    bad = Operation(kind=OperationKind.MODEL_GENERATE, name="m", cost_estimate={"sand": 1})
    with pytest.raises(ValueError, match="sand"):
        governor.before_model(bad)
    assert said(told.one("execute_tool run"), names.DECISION) == "deny"
    assert said(told.one("chat m"), names.ERROR_TYPE) == "cancelled"
    served = told.one("tools/call budget_admit")
    assert said(served, names.ERROR_TYPE) == "tool_error"
    assert said(served, names.ERROR_CODE) == "argument.invalid"


def test_an_approval_points_back_to_where_it_was_asked(
    told: Told, governor: Governor, kernel: Kernel
) -> None:
    """The call that uses an approval links to the call that asked for it."""
    asked = tool("write", path="/work/a")
    verdict = governor.before_tool(asked)
    assert verdict.decision is Decision.ASK
    Approvals(kernel).decide(str(verdict.approval), True, "user:ada")
    again = tool("write", path="/work/a")
    assert governor.before_tool(again, approval=str(verdict.approval)).allowed
    first, second = told.named("tool.call write")
    assert "fmos.approval.asked" in [event.name for event in first.events]
    assert "fmos.approval.used" in [event.name for event in second.events]
    assert said(first, names.APPROVAL) == said(second, names.APPROVAL) == verdict.approval
    assert [f"{link.context.span_id:016x}" for link in second.links] == [ids(first)[1]]


def test_a_framework_span_is_the_parent(told: Told, governor: Governor, kernel: Kernel) -> None:
    """Where the framework has a span open, the operations are in its trace, and no turn is made."""
    governor.flush()
    told.exporter.clear()
    framework = told.provider.get_tracer("framework")
    with framework.start_as_current_span("LangGraph"):
        governor.append("user", "again")
        call = model()
        governor.before_model(call)
        governor.after_model(call, {"tokens": 3})
        governor.flush()
    above = told.one("LangGraph")
    assert told.named("invoke_agent ada") == []
    assert is_below(told.one("chat gpt-5"), above)
    assert intents(kernel)[-1].detail["trace"] == ids(above)[0]


def test_a_framework_trace_reaches_the_row_while_telemetry_is_off(
    governor: Governor, kernel: Kernel
) -> None:
    """With the application's tracing on and ours off, rows still have the application's trace."""
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("framework").start_as_current_span("LangGraph") as span:
        governor.before_model(model())
    own = span.get_span_context()
    assert intents(kernel)[-1].detail["trace"] == f"{own.trace_id:032x}"


def test_the_spans_of_a_tool_are_below_its_call(told: Told, governor: Governor) -> None:
    """What a tool itself traces belongs to the tool call: one trace from question to effect."""
    call = tool("run", command="ls")
    governor.before_tool(call)
    with (
        governor.running(call),
        told.provider.get_tracer("tool").start_as_current_span("inside"),
    ):
        pass
    governor.after_tool(call, done(call), "x")
    assert is_below(told.one("inside"), told.one("execute_tool run"))


def test_turns_are_traces_of_their_own(told: Told, governor: Governor) -> None:
    """Each turn is a trace; what was set up before the first word belongs to the first."""
    for _ in range(2):
        governor.append("user", "hello")
        call = model()
        governor.before_model(call)
        governor.after_model(call, {"tokens": 3})
        governor.flush()
    first, second = told.named("invoke_agent ada")
    assert ids(first)[0] != ids(second)[0]
    assert {ids(span)[0] for span in told.all()} == {ids(first)[0], ids(second)[0]}


def test_the_next_words_of_the_user_begin_the_next_turn(told: Told, governor: Governor) -> None:
    """A turn that nobody ended ends when the user speaks again."""
    for _ in range(2):
        call = model()
        governor.before_model(call)
        governor.after_model(call, {"tokens": 3})
        governor.append("user", "and now?")
    first, second = told.named("invoke_agent ada")
    assert ids(first)[0] != ids(second)[0]
    chats = told.named("chat gpt-5")
    assert [ids(chat)[0] for chat in chats] == [ids(first)[0], ids(second)[0]]


def test_a_client_without_telemetry_has_its_trace_told_by_the_server(
    told: Told, kernel: Kernel
) -> None:
    """The span of an operation is in the trace that its record names, whoever sent it."""
    asked = {"kind": "model.generate", "name": "m", "trace": "ab" * 16, "span": "cd" * 8}
    connect(WHO, kernel=kernel).call("budget_admit", {"operation": asked})
    span = told.one("model.generate m")
    assert ids(span)[0] == "ab" * 16
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "cd" * 8
    (row,) = intents(kernel)
    assert (row.detail["trace"], row.detail["span"]) == ids(span)


def test_a_root_span_takes_the_trace_of_its_record(kernel: Kernel) -> None:
    """Without a span to be below of, the operation's span begins the trace that it names."""
    telemetry.configure(TelemetrySettings(exporter="file"), "test", home=kernel.home.path)
    asked = {"kind": "model.generate", "name": "m", "trace": "ab" * 16}
    connect(WHO, kernel=kernel).call("budget_admit", {"operation": asked})
    telemetry.shutdown()
    found = otlp_lines.spans(kernel.home.path / "telemetry.jsonl")
    (span,) = [each for each in found if each.name == "model.generate m"]
    assert (span.trace, span.parent) == ("ab" * 16, "")


def test_every_row_of_a_run_has_exactly_one_span(
    told: Told, governor: Governor, kernel: Kernel
) -> None:
    """Allowed, denied, asked, fast, failed and cancelled: each intent row is one span."""
    calls = [tool("run", command="ls"), tool("read", path="/work/a"), tool("read", path="/etc/b")]
    for call in [*calls, tool("write", path="/work/b"), tool("no"), tool("read", path="/work/c")]:
        if governor.before_tool(call).allowed:
            governor.after_tool(call, done(call), "text")
    cut = model()
    governor.before_model(cut)
    governor.cancelled(cut)
    governor.before_model(model(tokens=10_000))
    governor.flush()
    of_rows = [ids(span) for span in told.all() if said(span, names.JOURNAL_SEQ)]
    rows = [(row.detail["trace"], row.detail["span"]) for row in intents(kernel)]
    assert len(rows) == 8
    assert sorted(rows) == sorted(of_rows)
    assert len(set(of_rows)) == len(of_rows)
    assert {span.name for span in told.all() if span.end_time is None} == set()


def test_a_trace_that_is_not_kept_still_has_its_id_in_the_row(kernel: Kernel) -> None:
    """With a share of nothing no span is written, and the rows have traces all the same."""
    settings = TelemetrySettings(exporter="file", sample=0.0)
    kernel.contracts.save(CONTRACT)
    telemetry.configure(settings, "test", home=kernel.home.path)
    governor = started(kernel)
    governor.before_tool(tool("run", command="ls"))
    governor.flush()
    telemetry.shutdown()
    assert otlp_lines.spans(kernel.home.path / "telemetry.jsonl") == []
    assert all(row.detail["trace"] for row in intents(kernel))


def test_what_was_found_is_counted_and_its_sources_are_keyed(
    told: Told, governor: Governor, kernel: Kernel
) -> None:
    """A search says how many it found, and of which sources, by digests that need the key."""
    client = governor.client
    client.call("memory_write", {"text": "the plan is blue", "source": "docs/plan.md"})
    client.call("memory_search", {"query": "plan"})
    client.call("memory_search", {"query": "zebra"})
    hit, miss = told.named("tools/call memory_search")
    assert (said(hit, names.HITS), said(hit, names.HIT_RATE)) == (1, 1.0)
    assert (said(miss, names.HITS), said(miss, names.HIT_RATE)) == (0, 0.0)
    assert said(hit, names.SOURCES) == (kernel.keys_of("default").digest(b"docs/plan.md"),)
    assert said(hit, names.OPERATION_KIND) == "memory.read"
    write = told.one("tools/call memory_write")
    assert [event.name for event in write.events] == ["memory.write", "memory.write"]


def test_a_refusal_of_the_ledger_is_no_failure_of_telemetry(told: Told, kernel: Kernel) -> None:
    """An account that has nothing left raises as ever, and the span has its code."""
    kernel.contracts.save(CONTRACT.replace("tokens: 1000", "memory_writes: 1"))
    client = connect(WHO, kernel=kernel)
    client.call("memory_write", {"text": "one"})
    with pytest.raises(BudgetExceededError):
        client.call("memory_write", {"text": "two"})
    last = told.named("tools/call memory_write")[-1]
    assert said(last, names.ERROR_CODE) == "budget.exceeded"


# Content


def everything(told: Told) -> str:
    """Return all that was told, as one text."""
    return "\n".join(span.to_json() for span in told.all())


def speak(governor: Governor) -> None:
    """Make a turn with content in every place that there is."""
    governor.append("user", "my secret plan")
    governor.compose()
    governor.append("assistant", "an answer of mine")
    call = tool("run", command=f"deploy --key {SECRET} --to mars")
    governor.before_tool(call)
    governor.after_tool(call, done(call), "landed on mars")
    governor.client.call("memory_write", {"text": "remember mars", "source": "mars.md"})
    governor.client.call("memory_search", {"query": "mars"})
    governor.client.call("trust_observe", {"settled": [seen("seen on mars")]})
    governor.flush()


def seen(text: str) -> dict[str, Any]:
    """Return an observation as a client reports it."""
    return {"observation": Observation(source="user", text=text).model_dump(mode="json")}


def test_no_content_is_told_by_default(told: Told, governor: Governor) -> None:
    """Prompts, answers, arguments, outputs and queries stay where they are."""
    speak(governor)
    text = everything(told)
    assert not [word for word in ("plan", "mars", "answer of mine", SECRET) if word in text]


@pytest.fixture
def talkative(kernel: Kernel) -> Iterator[Governor]:
    """A session whose home says that content may be told, into a file."""
    kernel.contracts.save(CONTRACT)
    settings = TelemetrySettings(exporter="file", content=True)
    telemetry.configure(settings, "test", home=kernel.home.path)
    yield started(kernel)
    telemetry.shutdown(0)


def told_content(kernel: Kernel) -> dict[str, str]:
    """Return all content in the file, by attribute."""
    telemetry.shutdown()
    spans = otlp_lines.spans(kernel.home.path / "telemetry.jsonl")
    wanted = (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES, names.TOOL_ARGUMENTS)
    wanted += (names.TOOL_RESULT, names.SOURCE_NAMES)
    return {
        name: str(span.attributes[name])
        for span in spans
        for name in wanted
        if name in span.attributes
    }


def test_content_is_told_as_far_as_the_contract_names_it(
    talkative: Governor, kernel: Kernel
) -> None:
    """With `content = true` the fields in `log_fields` are told, and no other; secrets never."""
    speak(talkative)
    found = told_content(kernel)
    assert found.keys() == {names.INPUT_MESSAGES, names.TOOL_ARGUMENTS, names.SOURCE_NAMES}
    assert {"role": "user", "content": "my secret plan"} in json.loads(found[names.INPUT_MESSAGES])
    assert "--to mars" in found[names.TOOL_ARGUMENTS]
    assert found[names.SOURCE_NAMES] == "mars.md"
    assert SECRET not in (kernel.home.path / "telemetry.jsonl").read_text()


def test_a_policy_that_never_logs_has_the_last_word(talkative: Governor, kernel: Kernel) -> None:
    """What a policy's `never_log` names is not told, whatever contract and settings say."""
    (kernel.home.policies / "quiet.yaml").write_text(
        "apiVersion: agentos/v0.2\nkind: Policy\nlayer: admin\nmust: { never_log: [prompt] }\n"
    )
    speak(talkative)
    assert told_content(kernel).keys() == {names.TOOL_ARGUMENTS, names.SOURCE_NAMES}
