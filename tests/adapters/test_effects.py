"""Calls on the agent's own files that run on a fork, and are merged when a person says yes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.types import Command
from tests.adapters.desk import Desk, asked, thread
from tests.adapters.scripted import call, in_turn

from fmos.client import Governor
from fmos.types import Decision, Obligation, Operation, OperationKind, Verdict


def forks(desk: Desk) -> list[str]:
    """The tries that are there."""
    return [each.name for each in desk.files.branches() if "~try-" in each.name]


def results(state: dict[str, Any]) -> list[str]:
    """What the model was told of its calls."""
    return [str(each.text) for each in state["messages"] if isinstance(each, ToolMessage)]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("approved", [True, False])
def test_the_difference_is_asked_about_and_merged(desk: Desk, approved: bool, waits: bool) -> None:
    """The tool runs once, on a fork; the interrupt has the patch, and yes brings it about."""
    desk.files.write("/work/a.txt", "hello\n")
    script = in_turn(call("delete_file", path="/work/a.txt"), AIMessage("done"))
    agent = desk.agent(script, decide=desk.approvals.decide, files=desk.files, on_fork=desk.on_fork)
    run: Any = lambda given: (  # noqa: E731
        asyncio.run(agent.ainvoke(given, thread())) if waits else agent.invoke(given, thread())
    )
    (question,) = run(asked("delete it"))["__interrupt__"]
    effect = question.value["effect"]
    assert effect["tried"]
    assert effect["paths"] == [{"path": "/work/a.txt", "kind": "removed"}]
    assert "-hello" in effect["patch"]
    assert desk.files.exists("/work/a.txt")
    ended = run(Command(resume={"approved": approved, "approver": "user:ada"}))
    assert desk.ran == ["delete /work/a.txt on a fork"]
    assert desk.files.exists("/work/a.txt") is not approved
    assert results(ended)[0] == ("deleted /work/a.txt" if approved else results(ended)[0])
    assert len(forks(desk)) == (0 if approved else 1)


def test_a_tool_that_cannot_be_tried_says_so(desk: Desk) -> None:
    """Its effect happens when it is approved, and the question has that sentence."""
    desk.files.write("/work/a.txt", "hello")
    script = in_turn(call("delete_file", path="/work/a.txt"), AIMessage("done"))
    agent = desk.agent(
        script, decide=desk.approvals.decide, files=desk.files, on_fork=lambda files: []
    )
    (question,) = agent.invoke(asked("delete it"), thread())["__interrupt__"]
    assert question.value["effect"]["tried"] is False
    assert "not tried out" in question.value["effect"]["note"]
    assert forks(desk) == []
    agent.invoke(Command(resume={"approved": True, "approver": "user:ada"}), thread())
    assert desk.ran == ["delete /work/a.txt"]


def test_an_unknown_obligation_is_a_denial(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that cannot do what an allowed call obliges it to does not run it."""
    governor = Governor(desk.client)
    operation = Operation(kind=OperationKind.TOOL_CALL, name="delete_file")
    must = Obligation(kind="wear_gloves")
    allowed = Verdict(operation=operation.id, decision=Decision.ALLOW, obligations=(must,))
    monkeypatch.setattr(governor, "_check", lambda *given: allowed)
    verdict = governor.before_tool(operation)
    assert verdict.decision is Decision.DENY
    assert "wear_gloves" in verdict.reason
