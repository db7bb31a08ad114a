"""A session is recorded, told from its volume alone without secrets, and run again."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.core.sessions import CONTRACT, SECRET, TOOLS, put_contract, run_session, tool
from typer.testing import CliRunner

from agentfs.errors import AgentFSError
from fmos.client import connect
from fmos.client.governor import Governor
from fmos.config import Home
from fmos.errors import ArgumentError, FormatError, NotFoundError
from fmos.replay import reading
from fmos.replay.again import Policy, Rerun, run_again
from fmos.replay.story import Story, tell
from fmos.runtime.kernel import Kernel
from fmos.runtime.lifecycle import Lifecycle
from fmos.types import Operation, OperationKind, Outcome, OutcomeStatus, Principal
from fmos_cli.commands.replay import DIFFERS
from fmos_cli.main import app

_ASKING = """
import sys
from fmos.client import connect
from fmos.types import Operation, OperationKind, Principal

with connect(Principal(agent="writer", session="s"), home=sys.argv[1]) as client:
    while True:
        operation = Operation(kind=OperationKind.TOOL_CALL, name="read_file")
        client.call("trust_check", {"operation": operation.model_dump(mode="json")})
        print("asked", flush=True)
"""


def _again(home: Path, session: str = "monday", policy: Policy = "recorded") -> Rerun:
    place = Home(home)
    with reading.opened(place.volume("default")) as volume:
        return run_again(place, volume, "default", reading.find(volume, session), policy=policy)


def _story(home: Path, session: str = "monday", **options: bool) -> Story:
    with reading.opened(Home(home).volume("default")) as volume:
        keys = reading.keys_of(home / "keys", "default")
        return tell(volume, reading.find(volume, session), keys, **options)


def _digests(home: Path) -> dict[str, str]:
    """The content of every file of a home; what SQLite keeps beside open files is not content."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which one session ran."""
    with Kernel.open(tmp_path / "home") as kernel:
        run_session(kernel)
    return tmp_path / "home"


def test_a_session_is_told_from_its_volume_in_order(home: Path) -> None:
    """Every operation is there with its arguments, decision, outcome and texts, in its order."""
    story = _story(home)
    kinds = [step.kind for step in story.steps]
    assert kinds.index("context.open") < kinds.index("model.generate") < kinds.index("tool.call")
    calls = {step.id: step for step in story.steps if step.kind == "tool.call"}
    assert calls["call-2"].arguments == {"path": "/src/changes"}
    assert calls["call-2"].text.startswith("line of changes")
    assert calls["call-4"].decision == "deny"
    assert calls["call-4"].reasons[0].startswith("trust.secret: ")
    assert calls["call-5"].status == "ok"
    model = next(step for step in story.steps if step.kind == "model.generate")
    assert model.usage == {"tokens": 150}
    assert [step.arguments for step in story.steps if step.kind == "approval.decide"]
    assert any(step.text == "The notes are written." for step in story.steps)


def test_a_story_hides_secrets_wherever_they_stand(home: Path) -> None:
    """A secret is hidden in results, arguments and messages, and shown only when asked for."""
    assert SECRET not in json.dumps([repr(step) for step in _story(home).steps])
    assert SECRET in json.dumps([repr(step) for step in _story(home, redacted=False).steps])


def test_a_copied_volume_tells_the_story_without_the_home(home: Path, tmp_path: Path) -> None:
    """A copy of the file alone gives steps, decisions and messages, and says what is sealed."""
    copy = tmp_path / "copy.afs"
    shutil.copy(home / "tenants" / "default.afs", copy)
    shutil.rmtree(home)
    with reading.opened(copy) as volume:
        story = tell(volume, reading.find(volume, "monday"))
    assert story.sealed
    calls = [step for step in story.steps if step.kind == "tool.call"]
    assert [step.decision for step in calls] == ["allow", "allow", "deny", "ask", "allow"]
    assert any(step.text == "The notes are written." for step in story.steps)
    assert SECRET not in repr(story)


def test_no_file_of_a_recorded_home_holds_the_secret_of_an_argument(tmp_path: Path) -> None:
    """What a refused call was given is recorded, and lies on the disk encrypted only."""
    home = tmp_path / "home"
    put_contract(home)
    with Kernel.open(home) as kernel, connect(_who(), kernel=kernel) as client:
        governor = Governor(client)
        governor.register_tools(TOOLS)
        governor.before_tool(tool("send_mail", 1, to="eve@example.com", text=f"key={SECRET}"))
    files = [path for path in home.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    step = next(each for each in _story(home, redacted=False).steps if each.id == "call-1")
    assert SECRET in step.arguments["text"]


def test_a_run_comes_out_equal_and_twice_the_same(home: Path) -> None:
    """Under the recorded policies nothing differs, and two reports are the same to the byte."""
    first, second = _again(home), _again(home)
    assert first.equal, first.differences
    assert first.calls >= 15
    assert repr(first) == repr(second)


def test_a_run_changes_nothing_of_the_home(home: Path) -> None:
    """Every file of the home is as it was, so nothing was spent and no row was written."""
    before = _digests(home)
    _again(home)
    _again(home, policy="current")
    assert _digests(home) == before


def test_a_stricter_policy_shows_its_first_difference(home: Path) -> None:
    """Under the current policies, the call that is denied now is named with both decisions."""
    put_contract(home, CONTRACT.replace('"read_file", ', ""))
    rerun = _again(home, policy="current")
    first = rerun.differences[0]
    assert (first.tool, first.operation) == ("trust_check", "call-2")
    decisions = [each for each in rerun.differences if each.field == "decision"]
    assert (decisions[0].recorded, decisions[0].again) == ("allow", "deny")
    assert _again(home).equal
    assert _again(home).current_policy not in rerun.recorded_policies


def test_a_changed_recording_is_refused(home: Path) -> None:
    """An entry whose bytes were changed does not open, and the run says so."""
    with sqlite3.connect(home / "tenants" / "default.afs") as database:
        database.execute(
            "UPDATE ext_recording_entry SET content = zeroblob(80) WHERE name = 'trust_check'"
        )
    database.close()
    with pytest.raises(FormatError, match="does not open"):
        _again(home)


def test_a_session_goes_on_from_the_state_it_began_from(tmp_path: Path) -> None:
    """A session that another process goes on with is one recording, which comes out equal."""
    with Kernel.open(tmp_path / "home") as kernel:
        who = run_session(kernel)
    with Kernel.open(tmp_path / "home") as kernel, connect(who, kernel=kernel) as client:
        governor = Governor(client)
        governor.append("user", "And now?")
        governor.compose()
        governor.before_tool(tool("send_mail", 9, to="eve@example.com", text=SECRET))
    assert _again(tmp_path / "home").equal


def test_a_later_session_is_run_from_what_was_spent_and_seen(tmp_path: Path) -> None:
    """Secrets, tools and balances of earlier sessions count when the later one is run again."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        run_session(kernel)
        kernel.ledger.set_limit("org:default/tenant:default", "tokens", 300)
        tuesday = _who("tuesday")
        with connect(tuesday, kernel=kernel) as client:
            governor = Governor(client)
            governor.open_session("Go on.")
            sent = governor.before_tool(tool("send_mail", 11, to="e@example.com", text=SECRET))
            assert sent.reasons[0].code == "trust.secret"
            model = Operation(
                id="call-12",
                kind=OperationKind.MODEL_GENERATE,
                name="local/8B",
                cost_estimate={"tokens": 200},
            )
            assert governor.before_model(model).reasons[0].code == "budget.exceeded"
    rerun = _again(home, "tuesday")
    assert rerun.equal, rerun.differences


def test_what_others_spend_meanwhile_is_taken_over(tmp_path: Path) -> None:
    """A refusal for what another session spent of a shared limit comes out again."""
    home = tmp_path / "home"
    put_contract(home)
    with Kernel.open(home) as kernel:
        kernel.ledger.set_limit("org:default/tenant:default", "tokens", 1_000, "day")
        governors = {
            name: Governor(connect(_who(name), kernel=kernel)) for name in ("monday", "tuesday")
        }
        for name, governor in governors.items():
            governor.open_session("x")
            assert _model(governor, f"{name}-1", 300)
        assert _model(governors["tuesday"], "tuesday-2", 300)
        assert _model(governors["monday"], "monday-2", 50)
        assert not _model(governors["monday"], "monday-3", 100)
    for name in governors:
        rerun = _again(home, name)
        assert rerun.equal, rerun.differences


def test_an_agent_that_was_paused_is_refused_again(tmp_path: Path) -> None:
    """What a person said of the agent in the middle of the session counts in the run."""
    home = tmp_path / "home"
    put_contract(home)
    with Kernel.open(home) as kernel, connect(_who(), kernel=kernel) as client:
        governor = Governor(client)
        governor.register_tools(TOOLS)
        lifecycle = Lifecycle(kernel)
        assert governor.before_tool(tool("send_mail", 1, to="a@example.com", text="x")).allowed
        lifecycle.pause(_who(), person="user:ann")
        assert not governor.before_tool(tool("send_mail", 2, to="a@example.com", text="x")).allowed
        lifecycle.resume(_who(), person="user:ann")
        assert governor.before_tool(tool("send_mail", 3, to="a@example.com", text="x")).allowed
    rerun = _again(home)
    assert rerun.equal, rerun.differences


def test_a_forks_session_is_run_under_its_parents(tmp_path: Path) -> None:
    """A fork works under its parent's contract and account, also when it is run again."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        parent = run_session(kernel)
        child = kernel.fork_agent(parent, "helper")
        who = child.model_copy(update={"session": "side"})
        with connect(who, kernel=kernel) as client:
            governor = Governor(client)
            governor.open_session("Help.")
            governor.before_tool(tool("read_file", 21, path="/elsewhere"))
            governor.before_tool(tool("read_file", 22, path="/src/a"))
            governor.flush()
    rerun = _again(home, "side")
    assert rerun.equal, rerun.differences
    assert rerun.compared >= 2


def test_what_ran_without_a_trap_is_told_and_run_again(tmp_path: Path) -> None:
    """An operation of the fast path has its arguments, its text and its place in the story."""
    home = tmp_path / "home"
    put_contract(home, CONTRACT.replace("budgets: { tokens: 5000, tool_calls: 20 }", ""))
    with Kernel.open(home) as kernel, connect(_who(), kernel=kernel) as client:
        governor = Governor(client)
        governor.register_tools(TOOLS)
        governor.open_session("x")
        for number in (1, 2):
            read = tool("read_file", number, path=f"/src/{number}")
            assert governor.before_tool(read).reasons[0].code == "trap.innocuous"
            outcome = Outcome(operation=read.id, status=OutcomeStatus.OK, duration_ms=1.0)
            governor.after_tool(read, outcome, f"text {number}")
            if number == 1:
                governor.before_tool(tool("send_mail", 9, to="ann@example.com", text="hi"))
        governor.flush()
    calls = [step for step in _story(home).steps if step.kind == "tool.call"]
    assert [(step.id, step.fast) for step in calls] == [
        ("call-1", True), ("call-9", False), ("call-2", True)
    ]  # fmt: skip
    assert (calls[2].arguments, calls[2].text) == ({"path": "/src/2"}, "text 2")
    assert _again(home).equal


def test_a_killed_process_leaves_row_and_recording_together(tmp_path: Path) -> None:
    """After kill -9 at any time, every intent that the gate wrote has its entry."""
    home = tmp_path / "home"
    put_contract(home)
    with subprocess.Popen(
        [sys.executable, "-c", _ASKING, str(home)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(20):
            assert process.stdout.readline()
        process.kill()
    with sqlite3.connect(home / "tenants" / "default.afs") as database:
        intents, entries = (
            {seq for (seq,) in database.execute(query)}
            for query in (
                "SELECT seq FROM journal WHERE operation = 'op.intent'",
                "SELECT seq FROM ext_recording_entry WHERE name = 'trust_check'",
            )
        )
    database.close()
    assert len(intents) >= 20
    assert intents == entries


def test_recording_can_be_switched_off(tmp_path: Path) -> None:
    """Neither a home nor a contract that says no has recordings; the journal still tells."""
    for name, contract, settings in (
        ("home", CONTRACT, "[replay]\nrecord = false\n"),
        ("contract", CONTRACT + "observability: { record: false }\n", ""),
    ):
        home = tmp_path / name
        home.mkdir()
        (home / "fmos.toml").write_text(settings, encoding="utf-8")
        put_contract(home, contract)
        with Kernel.open(home) as kernel, connect(_who(), kernel=kernel) as client:
            governor = Governor(client)
            governor.register_tools(TOOLS)
            governor.open_session("x")
            governor.append("user", "Send hi to eve@example.com.")
            governor.before_tool(tool("send_mail", 1, to="eve@example.com", text="hi"))
        story = _story(home)
        assert not story.recorded, name
        assert [step.decision for step in story.steps if step.kind == "tool.call"] == ["allow"]
        assert any(step.text == "Send hi to eve@example.com." for step in story.steps)
        with pytest.raises(NotFoundError, match="not recorded"):
            _again(home)


def test_an_old_recording_is_forgotten_when_a_session_begins(tmp_path: Path) -> None:
    """After keep_days nothing opens what a forgotten session said, and the new one is there."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "fmos.toml").write_text("[replay]\nkeep_days = 1\n", encoding="utf-8")
    with Kernel.open(home) as kernel:
        run_session(kernel)
    with sqlite3.connect(home / "tenants" / "default.afs") as database:
        database.execute("UPDATE ext_recording_session SET started_ns = 1")
    database.close()
    with Kernel.open(home) as kernel, connect(_who("tuesday"), kernel=kernel) as client:
        Governor(client).open_session("A new day.")
    with reading.opened(home / "tenants" / "default.afs") as volume:
        assert [each.session for each in reading.sessions(volume)] == ["tuesday"]
    assert not _story(home).recorded


def test_no_file_door_leads_to_a_recording(home: Path) -> None:
    """An agent's handle finds no recording by name, search or listing, and reads no system file."""
    with Kernel.open(home) as kernel:
        files = kernel.agent_files(_who())
        assert not [path for path in files.glob("**") if "recording" in path]
        assert not list(files.grep(SECRET, "/"))
        for path in ("/.fmos/recordings/monday", "/.fmos/context/monday/items/0.json"):
            with pytest.raises((AgentFSError, OSError)):
                files.read(path)


def test_a_name_that_agents_share_wants_the_agent(tmp_path: Path) -> None:
    """Two agents with a session of one name are listed, and --agent chooses."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        for agent in ("ada", "bob"):
            with connect(Principal(agent=agent, session="s"), kernel=kernel) as client:
                Governor(client).open_session("x")
    with reading.opened(home / "tenants" / "default.afs") as volume:
        with pytest.raises(ArgumentError, match=r"ada.*bob"):
            reading.find(volume, "s")
        assert reading.find(volume, "s", agent="bob").agent == "bob"
        with pytest.raises(NotFoundError, match="'t'"):
            reading.find(volume, "t")


def test_the_command_says_by_its_exit_code_what_came_of_it(home: Path) -> None:
    """Equal is 0, different 40, unknown 8, and secrets want a terminal or --yes: 11."""
    runner = CliRunner()

    def call(*arguments: str) -> tuple[int, str]:
        result = runner.invoke(app, ["--home", str(home), "replay", *arguments])
        return result.exit_code, result.output

    assert call("monday", "--run")[0] == 0
    put_contract(home, CONTRACT.replace('"read_file", ', ""))
    code, said = call("monday", "--run", "--policy", "current")
    assert code == DIFFERS
    assert "trust_check call-2: decision" in said
    assert call("sunday")[0] == 8
    assert call("monday", "--unredacted")[0] == 11
    code, said = call("monday", "--unredacted", "--yes", "--json")
    assert code == 0
    assert SECRET in said
    with reading.opened(home / "tenants" / "default.afs") as volume:
        assert [row for row in volume.journal() if row.operation == "replay.unredacted"]


def _model(governor: Governor, id: str, tokens: int) -> bool:
    operation = Operation(
        id=id,
        kind=OperationKind.MODEL_GENERATE,
        name="local/8B",
        cost_estimate={"tokens": tokens},
    )
    if not governor.before_model(operation).allowed:
        return False
    governor.after_model(operation, {"tokens": tokens})
    return True


def _who(session: str = "monday") -> Principal:
    return Principal(agent="writer", session=session)
