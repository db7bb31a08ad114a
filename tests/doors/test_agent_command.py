"""`fmos agent`: what a person does with agents, with its exit codes and its JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.threats.terminal import at_terminal
from tests.threats.terminal import fmos as command
from typer.testing import CliRunner, Result

from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_cli.main import app

WRITER = Principal(agent="writer", session="s1")


def fmos(home: Path, *arguments: str, typed: str = "") -> Result:
    """Run `fmos agent` on a home."""
    return CliRunner().invoke(app, ["--home", str(home), "agent", *arguments], input=typed)


def state(home: Path, agent: str = "writer") -> str:
    """Return the state of an agent as `show --json` says it."""
    return json.loads(fmos(home, "show", agent, "--json").output)["state"]


def test_the_states_of_an_agent(tmp_path: Path) -> None:
    """Each verb says in one sentence what it did, and said again it changes nothing."""
    assert fmos(tmp_path, "spawn", "writer").output == "writer is running, made from the template\n"
    assert fmos(tmp_path, "spawn", "writer").exit_code == 0
    for _ in range(2):
        assert "is paused; `fmos agent resume writer`" in fmos(tmp_path, "pause", "writer").output
    assert state(tmp_path) == "paused"
    assert fmos(tmp_path, "resume", "writer").output == "writer is running\n"
    rows = json.loads(fmos(tmp_path, "list", "--json").output)["agents"]
    assert [(row["agent"], row["state"], row["person"][:5]) for row in rows] == [
        ("writer", "running", "user:")
    ]
    with Kernel.open(tmp_path) as kernel:
        rows = [r.operation for r in kernel.volume("default").journal() if r.detail.get("person")]
    assert rows == ["agent.spawn", "agent.pause", "agent.resume"]


def test_a_kill_is_asked_about(tmp_path: Path) -> None:
    """Without a person's yes nothing happens; with one, or with --yes, the agent ends."""
    fmos(tmp_path, "spawn", "writer")
    asked = command(tmp_path, "agent", "kill", "writer", "--reason", "spam")
    for typed in ("n", "", "\x04"):
        code, said = at_terminal(asked, typed)
        assert (code, "nothing was done" in said) == (1, True)
    for typed in ("y\n", ""):  # of a pipe, which is nobody
        said = fmos(tmp_path, "kill", "writer", typed=typed)
        assert (said.exit_code, "add --yes" in said.output) == (11, True)
    assert state(tmp_path) == "running"
    assert at_terminal(asked, "y")[0] == 0
    assert state(tmp_path) == "killed"
    assert fmos(tmp_path, "kill", "writer", "--yes").exit_code == 0
    text = fmos(tmp_path, "list").output
    assert "writer  killed since 20" in text
    assert "spam" in text
    assert fmos(tmp_path, "resume", "writer").exit_code == 5


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "nobody"), 8, "fmos agent list"),
        (("pause", "nobody"), 8, "nobody"),
        (("kill", "nobody", "--yes"), 8, "nobody"),
        (("checkpoint", "nobody"), 8, "nobody"),
        (("export", "nobody", "x.fmos"), 8, "nobody"),
        (("restore", "writer", "none"), 8, "none"),
        (("spawn", "writer", "--from", "none"), 8, "none"),
        (("spawn", "main"), 5, "main"),
        (("spawn", "a/b"), 5, "a/b"),
        (("spawn", "x", "--tenant", "a/b"), 5, "a/b"),
        (("fork", "writer", "writer"), 5, "taken"),
        (("checkpoint", "writer", "--name", "a b"), 5, "a b"),
        (("import", "none.fmos"), 5, "none.fmos"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """The sentence names the thing, and the exit code is the one of the help."""
    fmos(tmp_path, "spawn", "writer")
    result = fmos(tmp_path, *arguments)
    assert result.exit_code == code, result.output
    assert said in result.output


def test_a_checkpoint_and_the_way_back(tmp_path: Path) -> None:
    """A restore names what takes it back, and that works."""
    fmos(tmp_path, "spawn", "writer")
    assert fmos(tmp_path, "checkpoint", "writer", "--name", "one").output == "writer@one\n"
    with Kernel.open(tmp_path) as kernel:
        kernel.agent_fs(WRITER).write("/later", b"")
    done = json.loads(fmos(tmp_path, "restore", "writer", "one", "--json").output)
    with Kernel.open(tmp_path) as kernel:
        assert not kernel.agent_fs(WRITER).exists("/later")
    again = fmos(tmp_path, "restore", "writer", "writer@one").output
    assert again.startswith("writer is as it was at writer@one; `fmos agent restore writer @")
    fmos(tmp_path, "restore", "writer", f"@{done['before']}")
    with Kernel.open(tmp_path) as kernel:
        assert kernel.agent_fs(WRITER).exists("/later")
    assert "writer@one" in fmos(tmp_path, "show", "writer").output


def test_an_agent_moves(tmp_path: Path) -> None:
    """Exported here, imported there; the next step is printed, and it works."""
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "w.fmos"
    contract = "apiVersion: agentos/v0.2\nkind: AgentContract\nname: writer\n"
    with Kernel.open(here) as kernel:
        kernel.contracts.save(contract)
        kernel.agent_fs(WRITER).write("/a", b"1")
    out = fmos(here, "export", "writer", str(file))
    assert out.exit_code == 0, out.output
    key = out.output.split("signed by ")[1].split()[0]
    assert fmos(here, "export", "writer", str(file)).exit_code == 5
    assert fmos(there, "import", str(file)).exit_code == 5
    done = fmos(there, "import", str(file), "--trust-key", key, "--paused")
    assert done.exit_code == 0, done.output
    assert "imported writer as writer, paused" in done.output
    assert state(there) == "paused"
    command = done.output.split("then cp -n ")[1].split()
    Path(command[1]).write_bytes(Path(command[0]).read_bytes())
    with Kernel.open(there) as kernel:
        assert kernel.contract(WRITER) is not None
        assert kernel.agent_fs(WRITER).read("/a") == b"1"
    file.write_bytes(file.read_bytes()[:-100])
    assert fmos(tmp_path / "third", "import", str(file)).exit_code == 13
