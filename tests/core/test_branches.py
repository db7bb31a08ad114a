"""Which branch a principal's state lies on, who made it, and what the journal says of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from fmos.client import connect
from fmos.errors import ArgumentError, NotFoundError, PrincipalError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal, checked_id

# Waits for a line on stdin, so that all processes begin together; uses forty new agents.
_USER = """
import sys
from fmos.runtime.kernel import Kernel
from fmos.types import Principal

with Kernel.open(sys.argv[1]) as kernel:
    kernel.volume("default")
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(40):
        kernel.agent_fs(Principal(agent=f"agent{number}")).write(f"/{sys.argv[2]}", b"x")
"""


def test_applications_do_not_share_an_agent(kernel: Kernel) -> None:
    """An agent of another application is another agent, though the id is the same."""
    hr, sales = (Principal(application=name, agent="bot") for name in ("hr", "sales"))
    kernel.agent_fs(hr).write("/salary", b"1")
    assert not kernel.agent_fs(sales).exists("/salary")
    assert not kernel.agent_fs(Principal(agent="bot")).exists("/salary")
    assert hr.agent_key != sales.agent_key


def test_no_agent_is_the_template() -> None:
    """The branch that new agents are made from is nobody's own."""
    with pytest.raises(ValidationError, match="choose another"):
        Principal(agent="main")


def test_looking_for_an_agent_makes_none(kernel: Kernel) -> None:
    """What only reads gets nothing for an agent that has done nothing."""
    ghost = Principal(agent="ghost")
    assert kernel.known_agent_fs(ghost) is None
    assert [branch.name for branch in kernel.volume("default").branches()] == ["main"]
    kernel.agent_fs(ghost)
    assert kernel.known_agent_fs(ghost) is not None


def test_the_journal_names_who_really_did_it(kernel: Kernel) -> None:
    """Each session's rows carry its own principal, though the branch is the same."""
    for session in ("s1", "s2"):
        kernel.record(Principal(agent="ada", session=session), "test.event", {"by": session})
    rows = [row for row in kernel.volume("default").journal() if row.operation == "test.event"]
    assert [row.principal for row in rows] == ["default/-/ada/s1", "default/-/ada/s2"]


def test_a_dropped_id_inherits_nothing(kernel: Kernel) -> None:
    """Who takes the id of a dropped fork is not bound to that fork's parent."""
    boss = Principal(agent="boss", session="s1")
    kernel.agent_fs(boss)
    kernel.contracts.save("apiVersion: agentos/v0.2\nkind: AgentContract\nname: boss\n")
    kid = kernel.fork_agent(boss, "kid")
    assert kernel.contract(kid) is not None
    kernel.drop_agent(kid)
    kernel.agent_fs(kid)
    assert kernel.agents.lineage(kid)[1:] == ()
    assert kernel.contract(kid) is None
    assert kernel.account(kid) == "org:default/tenant:default/app:-/agent:kid/session:-"


def test_a_fork_of_a_session_spends_from_that_session(kernel: Kernel) -> None:
    """A fork lies under its parent's session, so it cannot have a budget of its own beside it."""
    boss = Principal(agent="boss", session="s1")
    kid = kernel.fork_agent(boss, "kid").model_copy(update={"session": "k1"})
    assert kernel.account(kid) == f"{kernel.account(boss)}/agent:kid/session:k1"


def test_a_session_and_a_fork_of_one_name_are_two_accounts(kernel: Kernel) -> None:
    """The session `kid` of an agent does not pay for its fork `kid`."""
    boss = Principal(agent="boss")
    kid = kernel.fork_agent(boss, "kid")
    session = boss.model_copy(update={"session": "kid"})
    assert kernel.account(session) not in kernel.account(kid)


def test_a_fork_cannot_take_a_taken_id(kernel: Kernel) -> None:
    """An id that has a branch is not given to a fork, and the fork does not happen."""
    kernel.agent_fs(Principal(agent="kid"))
    with pytest.raises(ArgumentError, match="'kid' is taken"):
        kernel.fork_agent(Principal(agent="boss"), "kid")
    with pytest.raises(ArgumentError, match="agent id"):
        kernel.fork_agent(Principal(agent="boss"), "kid\n")
    assert kernel.agents.lineage(Principal(agent="kid"))[1:] == ()


def test_an_agent_named_like_a_snapshot(kernel: Kernel) -> None:
    """An id that names a snapshot says so, instead of failing inside the volume."""
    kernel.volume("default").snapshot("v1")
    with pytest.raises(ArgumentError, match="name of a snapshot"):
        kernel.agent_fs(Principal(agent="v1"))


def test_dropping_who_is_not_there(kernel: Kernel) -> None:
    """Dropping an unknown agent names it."""
    with pytest.raises(NotFoundError, match="'nobody'"):
        kernel.drop_agent(Principal(agent="nobody"))


def test_a_launch_configuration_reaches_no_other_agents_branch(kernel: Kernel) -> None:
    """A principal that names a branch has its agent's own, or a fork of that, and no other."""
    ada, bob = Principal(agent="ada"), Principal(application="hr", agent="bob")
    for each in (ada, bob):
        kernel.agent_fs(each).write("/secret", each.agent)
    trial = kernel.agent_fs(ada).fork("ada~trial")
    trial.write("/secret", "tried")
    own = ada.model_copy(update={"branch": "ada~trial", "session": "s1"})
    assert kernel.agent_files(own).read("/secret") == b"tried"
    assert kernel.agent_fs(ada.model_copy(update={"branch": "ada"})).read("/secret") == b"ada"
    for launch, branch in (
        (ada, "hr:bob"), (ada, "main"), (ada, "adam"), (bob, "ada"), (bob, "bob"),
        (Principal(), "ada"), (Principal(), "main~x"), (Principal(agent="nobody"), "ada"),
    ):  # fmt: skip
        claimed = launch.model_copy(update={"branch": branch})
        for use in (kernel.agent_fs, kernel.agent_files, kernel.known_agent_fs, kernel.drop_agent):
            with pytest.raises(PrincipalError, match="is not one of the agent"):
                use(claimed)
        with pytest.raises(PrincipalError, match="leave 'branch' out"):
            kernel.record(claimed, "test.event", {})
        with pytest.raises((PrincipalError, ArgumentError)):  # the second where no agent is named
            connect(claimed, kernel=kernel).call("memory_write", {"text": "x"})
    assert [each.name for each in kernel.volume("default").branches()] == [
        "ada", "ada~trial", "hr:bob", "main",
    ]  # fmt: skip


def test_processes_that_use_an_agent_first(tmp_path: Path) -> None:
    """Several processes may be the first to use an agent; all find the one branch."""
    home = str(tmp_path / "home")
    Kernel.open(home).close()
    users = [
        subprocess.Popen(
            [sys.executable, "-c", _USER, home, str(number)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(3)
    ]  # fmt: skip
    for user in users:
        assert user.stdout is not None
        assert user.stdout.readline() == "ready\n"
    said = []
    for user in users:
        assert user.stdin is not None
        user.stdin.write("\n")
        user.stdin.flush()
    said = [user.communicate(timeout=60)[1] for user in users]
    assert said == ["", "", ""]
    with Kernel.open(home) as kernel:
        for number in range(40):
            files = kernel.agent_fs(Principal(agent=f"agent{number}"))
            assert [name for name in files.listdir("/") if name.isdigit()] == ["0", "1", "2"]


def test_ids_are_whole() -> None:
    """A trailing newline, a slash and an empty text are no id; the sentence says what one is."""
    for value in ("a\n", "a/b", "", "é", "a" * 129):
        with pytest.raises(ArgumentError, match="cannot be a thing; use at most 128"):
            checked_id(value, "a thing")
    assert checked_id("a" * 128, "a thing") == "a" * 128
