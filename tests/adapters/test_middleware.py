"""`FmosMiddleware` in real agents: what runs, what is refused, what the model sees."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langgraph.types import Command
from tests.adapters.desk import BIG, Desk, asked, thread
from tests.adapters.scripted import ScriptedModel, call, calls, in_turn

from fmos.client import connect
from fmos.errors import ArgumentError
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, Principal, Verdict
from fmos_langgraph import FmosMiddleware


def tool_messages(result: dict[str, Any]) -> list[ToolMessage]:
    """Return what the tools said, in order."""
    return [message for message in result["messages"] if isinstance(message, ToolMessage)]


def assert_pairs(messages: Sequence[BaseMessage]) -> None:
    """Every result follows a call of its id, and every call has its result."""
    made = [c["id"] for m in messages if isinstance(m, AIMessage) for c in m.tool_calls]
    answered = [m.tool_call_id for m in messages if isinstance(m, ToolMessage)]
    assert sorted(made) == sorted(answered)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_agent_reads_and_writes_under_its_contract(desk: Desk, asynchronous: bool) -> None:
    """Reading takes the fast path, writing and model calls the slow one; both ways of running."""
    desk.files.write("/work/a.txt", "hello")
    script = in_turn(
        call("read_file", path="/work/a.txt"),
        call("write_file", "c2", path="/work/b.txt", content="copied"),
        AIMessage("done"),
    )
    agent = desk.agent(script)
    run = agent.ainvoke(asked("copy it"), thread()) if asynchronous else None
    result = asyncio.run(run) if run is not None else agent.invoke(asked("copy it"), thread())
    assert result["messages"][-1].content == "done"
    assert [message.content for message in tool_messages(result)] == ["hello", "wrote /work/b.txt"]
    assert desk.files.read_text("/work/b.txt") == "copied"
    assert desk.paths == [
        ("model.generate scripted", "slow", "allow"),
        ("tool.call read_file", "fast", "allow"),
        ("model.generate scripted", "slow", "allow"),
        ("tool.call write_file", "slow", "allow"),
        ("model.generate scripted", "slow", "allow"),
    ]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_denied_call_is_told_to_the_model_and_the_run_goes_on(
    desk: Desk, asynchronous: bool
) -> None:
    """A write outside the contract's paths does not run; the model reads why and finishes."""
    script = in_turn(call("write_file", path="/etc/passwd", content="x"), AIMessage("sorry"))
    agent = desk.agent(script)
    run = agent.ainvoke(asked("go"), thread()) if asynchronous else None
    result = asyncio.run(run) if run is not None else agent.invoke(asked("go"), thread())
    (refused,) = tool_messages(result)
    assert refused.status == "error"
    assert "/etc/passwd" in refused.text
    assert desk.ran == []
    assert result["messages"][-1].content == "sorry"
    assert ("tool.call write_file", "slow", "deny") in desk.paths
    assert_pairs(desk.model.seen[-1])


@pytest.mark.parametrize("approved", [True, False])
def test_asked_call_waits_for_a_person_who_resumes(desk: Desk, approved: bool) -> None:
    """The run stops with an interrupt; the answer given with resume decides, and is recorded."""
    desk.files.write("/work/a.txt", "hello")
    script = in_turn(call("delete_file", path="/work/a.txt"), AIMessage("done"))
    agent = desk.agent(script, decide=desk.approvals.decide)
    waiting = agent.invoke(asked("delete it"), thread())
    (question,) = waiting["__interrupt__"]
    assert question.value["tool"] == "delete_file"
    assert question.value["arguments"] == {"path": "/work/a.txt"}
    assert desk.ran == []
    answer = {"approved": approved, "approver": "user:ada", "reason": "checked"}
    result = agent.invoke(Command(resume=answer), thread())
    assert result["messages"][-1].content == "done"
    assert desk.files.exists("/work/a.txt") is not approved
    decided = desk.approvals.state(question.value["approval"])
    assert decided is not None
    assert decided.approver == "user:ada"
    assert decided.state == ("used" if approved else "denied")
    assert [message.status for message in tool_messages(result)] == [
        "success" if approved else "error"
    ]


def test_resume_does_not_override_the_gate(desk: Desk) -> None:
    """Without a record of the approval at the gate, a resumed yes alone runs nothing."""
    desk.files.write("/work/a.txt", "hello")
    agent = desk.agent(in_turn(call("delete_file", path="/work/a.txt"), AIMessage("ok")))
    agent.invoke(asked("delete it"), thread())
    result = agent.invoke(Command(resume={"approved": True}), thread())
    assert desk.files.exists("/work/a.txt")
    assert "waits for a person" in tool_messages(result)[0].text


def test_resume_after_fmos_approve_runs_the_call(desk: Desk) -> None:
    """A person approves at the gate's own door and then resumes the run, here asynchronously."""
    desk.files.write("/work/a.txt", "hello")
    agent = desk.agent(in_turn(call("delete_file", path="/work/a.txt"), AIMessage("ok")))
    waiting = asyncio.run(agent.ainvoke(asked("delete it"), thread()))
    desk.approvals.decide(waiting["__interrupt__"][0].value["approval"], True, "user:ada")
    asyncio.run(agent.ainvoke(Command(resume={"approved": True}), thread()))
    assert not desk.files.exists("/work/a.txt")


@pytest.mark.parametrize("answer", ["yes", "no", "raise", "text", "coroutine"])
def test_on_ask_answers_in_place_of_an_interrupt(desk: Desk, answer: str) -> None:
    """A handler may approve, refuse, run the call itself, or fail; only a recorded yes runs it."""
    desk.files.write("/work/a.txt", "hello")

    def on_ask(operation: Operation, verdict: Verdict, request: Any) -> Any:
        assert verdict.approval is not None
        if answer == "raise":
            raise OSError("no terminal")
        if answer == "text":
            return "done on a fork"
        desk.approvals.decide(verdict.approval, answer == "yes", "user:ada")
        return answer == "yes"

    async def on_ask_async(operation: Operation, verdict: Verdict, request: Any) -> Any:
        return on_ask(operation, verdict, request) or True

    handler = on_ask_async if answer == "coroutine" else on_ask
    agent = desk.agent(
        in_turn(call("delete_file", path="/work/a.txt"), AIMessage("ok")), on_ask=handler
    )
    result = agent.invoke(asked("go"), thread())
    (message,) = tool_messages(result)
    assert desk.files.exists("/work/a.txt") is (answer != "yes")
    assert message.status == ("success" if answer in ("yes", "text") else "error")
    if answer == "text":
        assert message.text == "done on a fork"


def test_async_on_ask_is_awaited(desk: Desk) -> None:
    """A coroutine function as the handler works where the agent runs asynchronously."""
    desk.files.write("/work/a.txt", "hello")

    async def on_ask(operation: Operation, verdict: Verdict, request: Any) -> bool:
        desk.approvals.decide(verdict.approval or "", True, "user:ada")
        return True

    agent = desk.agent(
        in_turn(call("delete_file", path="/work/a.txt"), AIMessage("ok")), on_ask=on_ask
    )
    asyncio.run(agent.ainvoke(asked("go"), thread()))
    assert not desk.files.exists("/work/a.txt")


def test_gate_that_fails_lets_nothing_run(desk: Desk) -> None:
    """When the trust gate cannot answer, the call is refused and the model is told."""
    agent = desk.agent(
        in_turn(call("write_file", path="/work/a.txt", content="x"), AIMessage("ok"))
    )
    real = desk.client._transport
    desk.client._transport = _Deaf(real)  # type: ignore[assignment]
    result = agent.invoke(asked("go"), thread())
    assert desk.ran == []
    assert "could not judge" in tool_messages(result)[0].text


class _Deaf:
    """A transport to servers of which the trust gate does not answer."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if tool == "trust_check":
            raise ConnectionError("the gate is gone")
        return self._inner.call(tool, arguments)

    def close(self) -> None:
        self._inner.close()


def test_exception_of_a_tool_stays_as_it_was(desk: Desk) -> None:
    """The tool's own exception ends the run as it would without FMOS, and is journalled."""
    agent = desk.agent(in_turn(call("broken"), AIMessage("ok")))
    with pytest.raises(ZeroDivisionError, match="as always"):
        agent.invoke(asked("go"), thread())
    desk.middleware.governor.flush()
    rows = [row for row in desk.files.journal() if "op.outcome" in str(row)]
    assert any("failed" in str(row) for row in rows)


def test_parallel_calls_each_get_their_result(desk: Desk) -> None:
    """Three calls of one answer run side by side; each result goes with its call."""
    desk.files.write("/work/a.txt", "A")
    script = in_turn(
        calls(
            ("read_file", "r", {"path": "/work/a.txt"}),
            ("write_file", "w", {"path": "/work/b.txt", "content": "B"}),
            ("write_file", "x", {"path": "/outside", "content": "C"}),
        ),
        AIMessage("done"),
    )
    agent = desk.agent(script)
    result = asyncio.run(agent.ainvoke(asked("go"), thread()))
    by_call = {message.tool_call_id: message for message in tool_messages(result)}
    assert by_call["r"].text == "A"
    assert by_call["w"].text == "wrote /work/b.txt"
    assert by_call["x"].status == "error"
    assert_pairs(desk.model.seen[-1])


def test_long_output_is_paged_out_and_read_back(desk: Desk) -> None:
    """The model sees a stub with a handle, and gets the exact span with `context_read`."""

    def script(messages: Sequence[BaseMessage]) -> AIMessage:
        last = messages[-1]
        if isinstance(last, HumanMessage):
            return call("big")
        if isinstance(last, ToolMessage) and last.name == "big":
            handle = last.text.split("handle ")[1].split("]")[0]
            return call("context_read", "c2", handle=handle, pattern="line 3999:")
        return AIMessage(f"it says {messages[-1].text}")

    agent = desk.agent(script)
    result = agent.invoke(asked("go"), thread())
    stub, found = tool_messages(result)
    assert len(stub.text) < 1000 < len(BIG)
    assert f"line 3999: {3999 * 37}" in found.text
    assert ("tool.call context_read", "fast", "allow") in desk.paths
    assert "context_read" in desk.model.tool_names


def test_unknown_handle_is_an_error_that_the_model_reads(desk: Desk) -> None:
    """A handle that the model made up gives an error result, not a failed run."""
    agent = desk.agent(in_turn(call("context_read", handle="p9-0000000000"), AIMessage("ok")))
    result = agent.invoke(asked("go"), thread())
    assert tool_messages(result)[0].status == "error"
    assert result["messages"][-1].content == "ok"


def test_context_never_exceeds_its_window(desk: Desk) -> None:
    """Over many turns the model is sent what fits, with calls and results still in pairs."""
    words = "word " * 300
    turns = [call("write_file", f"c{n}", path="/work/a.txt", content=words) for n in range(12)]
    left = iter([*turns, AIMessage("done")])  # what was dropped cannot be counted
    agent = desk.agent(lambda messages: next(left), max_context_tokens=2000)
    agent.invoke(asked("go"), thread() | {"recursion_limit": 100})
    counts = [
        desk.middleware._input_tokens(_request(desk, messages)) for messages in desk.model.seen
    ]
    assert max(counts) <= 2000
    assert len(desk.model.seen) == 13
    for messages in desk.model.seen:
        assert_pairs(messages)
    assert "not shown" in desk.model.seen[-1][0].text


def _request(desk: Desk, messages: list[BaseMessage]) -> Any:
    from langchain.agents.middleware.types import ModelRequest

    return ModelRequest(model=desk.model, messages=messages)  # type: ignore[arg-type]


def test_each_message_is_taken_in_once(desk: Desk) -> None:
    """A second turn on the thread appends its own messages only."""
    agent = desk.agent(in_turn(AIMessage("one"), AIMessage("two")))
    agent.invoke(asked("first"), thread())
    agent.invoke(asked("second"), thread())
    opened = desk.client.call("context_open", {"system": "You are a test."})
    assert opened["items"] == 4
    assert [m.text for m in desk.model.seen[-1]] == ["You are a test.", "first", "one", "second"]


def test_model_without_budget_is_not_called(desk: Desk) -> None:
    """When the session's tokens are spent, the run ends with the reason instead of an answer."""
    usage = UsageMetadata(input_tokens=40_000, output_tokens=9_900, total_tokens=49_900)
    agent = desk.agent(in_turn(AIMessage("one", usage_metadata=usage), AIMessage("two")))
    agent.invoke(asked("first"), thread())
    result = agent.invoke(asked("second"), thread())
    assert len(desk.model.seen) == 1
    assert "not called" in result["messages"][-1].text
    assert "tokens" in result["messages"][-1].text
    balances = desk.client.call("budget_status", {})["balances"]
    spent = [b["spent"] for b in balances if b["resource"] == "tokens" and b["limit"]]
    assert spent == [49_900]


def test_usage_is_estimated_where_none_is_reported(desk: Desk) -> None:
    """A provider that reports no usage is charged by the token counter."""
    desk.agent(in_turn(AIMessage("one"))).invoke(asked("first"), thread())
    balances = desk.client.call("budget_status", {})["balances"]
    assert any(b["resource"] == "tokens" and b["spent"] > 10 for b in balances)


def test_failed_model_call_gives_its_budget_back(desk: Desk) -> None:
    """An exception of the provider comes through unchanged and costs nothing."""

    def fail(messages: Sequence[BaseMessage]) -> AIMessage:
        raise TimeoutError("provider")

    with pytest.raises(TimeoutError, match="provider"):
        desk.agent(fail).invoke(asked("first"), thread())
    balances = desk.client.call("budget_status", {})["balances"]
    assert all(b["spent"] == 0 and b["reserved"] == 0 for b in balances)


def test_agent_goes_on_after_a_restart_in_a_new_process(desk: Desk) -> None:
    """A run that waits for a person is resumed by another process from the volume alone."""
    desk.files.write("/work/a.txt", "hello")
    agent = desk.agent(in_turn(call("delete_file", path="/work/a.txt"), AIMessage("done")))
    waiting = agent.invoke(asked("delete it"), thread())
    assert waiting["__interrupt__"]
    code = (
        "import sys\n"
        "from fmos.runtime.kernel import Kernel\n"
        "from langchain_core.messages import AIMessage\n"
        "from langgraph.types import Command\n"
        "from tests.adapters.desk import Desk, thread\n"
        "from tests.adapters.scripted import call, in_turn\n"
        "with Kernel.open(sys.argv[1]) as kernel:\n"
        "    desk = Desk(kernel)\n"
        "    script = in_turn(call('delete_file', path='/work/a.txt'), AIMessage('done'))\n"
        "    agent = desk.agent(script, decide=desk.approvals.decide)\n"
        "    result = agent.invoke(Command(resume={'approved': True}), thread())\n"
        "    print(result['messages'][-1].text, desk.ran, len(desk.model.seen))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(desk.kernel.home.path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "done ['delete /work/a.txt'] 1", done.stderr
    assert not desk.files.exists("/work/a.txt")


def test_fork_of_the_agent_goes_on_by_itself(desk: Desk) -> None:
    """A forked agent has thread, context and files; what it does is not seen by its parent."""
    agent = desk.agent(in_turn(AIMessage("one"), AIMessage("two")))
    agent.invoke(asked("first"), thread())
    child = desk.kernel.fork_agent(desk.principal, "child")
    other = Desk(desk.kernel, agent=child.agent)
    forked = other.agent(in_turn(AIMessage("one"), AIMessage("in the fork")))
    forked.invoke(asked("second"), thread())
    assert [m.text for m in other.model.seen[-1]] == ["You are a test.", "first", "one", "second"]
    state = agent.get_state(thread())
    assert [m.text for m in state.values["messages"]] == ["first", "one"]


def test_own_context_read_is_kept(kernel: Kernel) -> None:
    """An application that describes its own `context_read` gets no second one."""
    from fmos.traps.manifest import ToolDescriptor

    client = connect(Principal(agent="worker", session="s"), kernel=kernel)
    own = ToolDescriptor(name="context_read", effect="read")
    assert FmosMiddleware(client, [own]).tools == []
    assert [tool.name for tool in FmosMiddleware(client).tools] == ["context_read"]


def test_client_without_a_session_is_refused(kernel: Kernel) -> None:
    """A middleware needs to know which session it governs."""
    client = connect(Principal(agent="worker"), kernel=kernel)
    with pytest.raises(ArgumentError, match="session"):
        FmosMiddleware(client)


class _Endless(ScriptedModel):
    """A model whose provider never answers."""

    async def _agenerate(self, messages: list[BaseMessage], *rest: Any, **named: Any) -> Any:
        self._seen.append(list(messages))
        await asyncio.Event().wait()


def test_a_cancelled_model_call_gives_its_reservation_back(desk: Desk) -> None:
    """A time-out around a call leaves nothing reserved, so the next call is not refused."""
    model = _Endless(answer=in_turn(AIMessage("never")))
    agent = create_agent(model, [], middleware=[FmosMiddleware(desk.client)])

    async def time_out() -> None:
        running = asyncio.create_task(agent.ainvoke(asked("hi"), thread()))
        while not model.seen:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(time_out())
    balances = desk.client.call("budget_status")["balances"]
    assert balances
    assert {balance["reserved"] for balance in balances} == {0}
    assert {balance["spent"] for balance in balances} == {0}
