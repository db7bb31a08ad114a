"""For whom a call is made: what a door knows, what a client claims, what an argument may say."""

from __future__ import annotations

import anyio
import anyio.to_thread
import pytest

from fmos.errors import ArgumentError, PrincipalError
from fmos.serving.acting import Door, acting, agree, claiming, through
from fmos.serving.toolset import Toolset
from fmos.types import Principal

ACME = Principal(tenant="acme", application="crm", agent="ada", session="s1", role="clerk")
OPEN = Principal(tenant="acme", application="crm", role="clerk")
SOCKET = Door(trusts_claims=True)


def _claim(**fields: str) -> dict[str, object]:
    return {"fmos/principal": {**ACME.model_dump(), **fields}}


def test_arguments_must_repeat_the_acting_principal(kernel):
    """Ids in arguments are taken where the door left them open, and refused where it did not."""
    tools = Toolset(kernel, Principal(agent="launched"))
    with through(Door(ACME)):
        assert tools.principal() == ACME
        assert tools.principal("ada", "s1") == ACME
        for arguments, field in ((("bob", ""), "agent 'ada'"), (("ada", "s2"), "session 's1'")):
            with pytest.raises(PrincipalError, match=f"this call is made for {field}"):
                tools.principal(*arguments)
    with through(Door(OPEN)):
        assert tools.principal("ada", "s1") == ACME
        with pytest.raises(ArgumentError, match="'agent' is missing"):
            tools.principal()
    assert tools.principal() == Principal(agent="launched")
    with pytest.raises(PrincipalError, match="was started for agent 'launched'"):
        tools.principal("ada")


def test_a_project_cannot_be_left_out():
    """A claim that names no project keeps the door's, another is refused, and more is taken."""
    known = ACME.model_copy(update={"project": "/work/p"})
    assert agree(known, ACME, "it").project == "/work/p"
    with pytest.raises(PrincipalError, match="project '/work/p'"):
        agree(known, ACME.model_copy(update={"project": "/work/q"}), "it")
    assert agree(ACME, known, "it").project == "/work/p"


def test_worker_threads_inherit_it():
    """A tool that runs on a worker thread acts for whom its door found out, and no other call."""
    seen: dict[str, Principal | None] = {}

    async def call(agent: str) -> None:
        with through(Door(ACME.model_copy(update={"agent": agent}))):
            await anyio.sleep(0)
            seen[agent] = await anyio.to_thread.run_sync(acting)

    async def many() -> None:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(call, f"a{number}")

    anyio.run(many)
    assert {agent: who.agent for agent, who in seen.items() if who} == {a: a for a in seen}
    assert len(seen) == 20
    assert acting() is None


def test_the_socket_believes_the_client():
    """Who can open the socket owns the home: all that the client says of itself counts."""
    other = _claim(tenant="globex", branch="b", session="")
    with through(SOCKET), claiming(other, Principal()):
        assert acting() == Principal.model_validate(other["fmos/principal"])
    with through(SOCKET), claiming({}, Principal(agent="launched")):
        assert acting() is None


@pytest.mark.parametrize("field", Principal.model_fields)
def test_a_token_cannot_be_stretched(field):
    """A claim that names another value than the token, in any field, is refused by that name."""
    with (
        through(Door(ACME.model_copy(update={"project": "/work/p"}))),
        pytest.raises(PrincipalError, match=rf"the token is for {field} .*cannot act for 'other'"),
        claiming(_claim(**{field: "other"}), Principal()),
    ):
        pytest.fail("the claim was taken")


def test_a_claim_fills_what_a_token_leaves_open():
    """A token for any agent lets the client name agent and session, and nothing else."""
    with through(Door(OPEN)), claiming(_claim(), Principal()):
        assert acting() == ACME
    with through(Door(ACME)), claiming(_claim(session=""), Principal()):
        assert acting() == ACME
    with (
        through(Door(OPEN)),
        pytest.raises(PrincipalError, match="tenant"),
        claiming(_claim(tenant="globex"), Principal()),
    ):
        pytest.fail("the claim was taken")


def test_stdio_holds_a_claim_against_its_launch():
    """A server that was started for one agent does not become another's by a request's `_meta`."""
    with (
        pytest.raises(PrincipalError, match="this server is for agent 'ada'"),
        claiming(_claim(agent="bob"), ACME),
    ):
        pytest.fail("the claim was taken")


@pytest.mark.parametrize("claim", [3, "ada", {"agent": "../x"}, {"agnet": "ada"}, []])
def test_a_claim_that_is_no_principal(claim):
    """A malformed claim is refused as an argument, on the socket as well."""
    with (
        through(SOCKET),
        pytest.raises(ArgumentError, match="is no principal"),
        claiming({"fmos/principal": claim}, Principal()),
    ):
        pytest.fail("the claim was taken")


def test_agree_keeps_the_stricter():
    """What one side names and the other leaves open is named in the result."""
    assert agree(OPEN, ACME, "it") == agree(ACME, OPEN, "it") == ACME
