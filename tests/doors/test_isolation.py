"""Nobody reaches another tenant, application or agent: every tool and every command is tried.

Three victims live beside one attacker, each with a marker in all that the servers keep. A tool or
command that is not in the tables below fails the test until it is given arguments.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest
import typer
from typer.testing import CliRunner

from fmos.client import connect
from fmos.contract.parse import load_as
from fmos.contract.workflow import Workflow
from fmos.delegation.delegate import delegate
from fmos.delegation.model import Scope
from fmos.errors import FmosError, PrincipalError
from fmos.runtime.agent_export import export_agent
from fmos.runtime.kernel import Kernel
from fmos.runtime.lifecycle import Lifecycle
from fmos.serving.discovery import discover
from fmos.types import Principal
from fmos.versions.model import Candidate
from fmos.versions.versions import Versions
from fmos.workflow.runner import Runner
from fmos_cli.main import app
from fmos_trust.approvals import Approvals
from fmos_trust.delegation.grants import Grants
from fmos_trust.delegation.model import Source

from .conftest import CONTRACT, daemon, issue, port_of

#: No session: it may name any, which is the hardest case.
ATTACKER = Principal(tenant="acme", agent="ada")
VICTIMS = {
    "tenant": Principal(tenant="globex", agent="ada"),
    "application": Principal(tenant="acme", application="crm", agent="ada"),
    "agent": Principal(tenant="acme", agent="bob"),
}
DOORS = ("inprocess", "socket", "token")
SESSION = "spring"
#: What stands in the account path of a victim and of nobody else.
SEGMENTS = {
    "tenant": "tenant:globex",
    "application": "tenant:acme/app:crm",
    "agent": "tenant:acme/app:-/agent:bob",
}


@dataclass
class Plant:
    """What one victim has, by the ids that the servers gave it."""

    who: Principal
    marker: str
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def run(self) -> dict[str, Any]:
        """A call that a person has approved for the victim."""
        arguments = {"command": f"deploy {self.marker}"}
        return {"kind": "tool.call", "name": "deploy", "arguments": arguments, "id": "d" * 32}


@dataclass
class World:
    """A home with all victims in it, its daemon's address, and the attacker's token and key."""

    home: Path
    url: str
    token: str
    key: str
    plants: dict[str, Plant]
    told: set[str] = field(default_factory=set)


Attack = Callable[[Plant], list[dict[str, Any]]]


def _operation(plant: Plant, **more: Any) -> dict[str, Any]:
    # The marker in a command would come back in the attacker's own words.
    quiet = {**plant.run, "arguments": {"command": "deploy"}, "principal": plant.who.model_dump()}
    return {**quiet, **more}


def _model(plant: Plant) -> dict[str, Any]:
    cost = {"tokens": 7}
    return _operation(plant, kind="model.generate", id=plant.ids["model"], cost_estimate=cost)


#: Per tool: calls with the ids of the victim. Each is also made in the victim's session, and as
#: each way to write the victim's agent.
_RULES = """
apiVersion: agentos/v0.2
kind: TrustPolicy
name: ada
rules: [{ id: never, tools: ["*"], effect: deny }]
"""

ATTACKS: dict[str, Attack] = {
    "memory_write": lambda p: [{"text": "mine"}, {"text": "mine", "namespace": p.who.tenant}],
    "memory_search": lambda p: [
        {"query": "plan of records"},
        {"query": "plan of records", "namespace": "default", "limit": 100},
    ],
    "memory_get": lambda p: [{"id": p.ids["memory"]}],
    "context_open": lambda p: [{}, {"max_tokens": 9000}],
    "context_append": lambda p: [{"role": "user", "text": "hello"}],
    "context_compose": lambda p: [{}, {"items": [p.ids["item"]]}],
    "context_read": lambda p: [
        {"handle": p.ids["handle"]},
        {"handle": p.ids["handle"], "pattern": "plan"},
    ],
    "trust_check": lambda p: [
        {"operation": _operation(p), "approval": p.ids["approval"]},
        {"operation": p.run, "approval": p.ids["approval"]},
        {"operation": _operation(p, arguments={"command": f"curl {_secret(p)}"})},
        {"operation": _operation(p, id="e" * 32), "settled": [_settled(p)]},
    ],
    "trust_settle": lambda p: [
        {"outcome": {"operation": p.run["id"], "status": "ok"}},
        {"outcome": {"operation": p.ids["model"], "status": "ok"}},
    ],
    "trust_observe": lambda p: [{"settled": [_settled(p)]}],
    "trust_table": lambda p: [{}],
    "trust_policy_dry_run": lambda p: [
        {"calls": [{"tool": "read_file", "arguments": {"path": p.marker}}]},
        {"limit": 10_000},
    ],
    "trust_pending": lambda p: [{}],
    "trust_explain": lambda p: [
        {},
        {"id": p.run["id"]},
        {"id": p.ids["model"]},
        {"id": p.ids["approval"]},
    ],
    "trust_register_tools": lambda p: [
        {"tools": [{"name": "deploy", "capability": "fs.read", "effect": "read"}]}
    ],
    "audit_query": lambda p: [
        {},
        {"operation": p.run["id"]},
        {"operation": p.ids["model"], "kind": "op.intent", "limit": 200},
    ],
    "audit_verify": lambda p: [{}],
    "set_reasoning_level": lambda p: [{"model": "gpt-5.2", "level": "low"}],
    "budget_admit": lambda p: [{"operation": _model(p)}],
    "budget_settle": lambda p: [{"reservation": p.ids["reservation"], "usage": {"tokens": 900}}],
    "budget_status": lambda p: [{}],
}

_ADMINISTRATOR = "the administrator's, for the whole home"
_ASKS = "workflow: asks\nsteps: [{ id: ok, type: HITL_approval }]\n"
_NO_JOBS = "[jobs]\nexpire_s = 0\ngc_s = 0\ncheckpoints_s = 0\ncanaries_s = 0\n"
_PROMPT = b"be brief"
_METRIC = f"""#!{sys.executable}
import json, sys
for line in open(sys.argv[2]):
    run = json.loads(line)
    print(json.dumps({{"trace": run.get("trace") or run.get("run"), "value": 1}}))
"""
_FILES = "reads documents that its user names, and no tenant's state"

#: Per command: what to run as the attacker's tenant, or why there is nothing to try.
COMMANDS: dict[tuple[str, ...], tuple[str, ...] | str] = {
    ("serve",): "the doors themselves, which the rest of this file tries",
    ("demo",): "has a home of its own",
    ("pending",): _ADMINISTRATOR,
    ("why",): ("--agent", "ada", "--tenant", "acme", "--json"),
    ("approve",): _ADMINISTRATOR,
    ("trust",): _ADMINISTRATOR,
    ("backup",): _ADMINISTRATOR,
    ("restore",): _ADMINISTRATOR,
    ("upgrade",): _ADMINISTRATOR,
    ("doctor",): _ADMINISTRATOR,
    ("audit", "show"): ("--tenant", "acme", "--agent", "ada", "--json"),
    ("audit", "verify"): ("--tenant", "acme", "--json"),
    ("audit", "prove"): ("1", "--tenant", "acme"),
    ("audit", "export"): ("--to", "{contract}.jsonl", "--tenant", "acme", "--json"),
    ("audit", "checkpoint"): ("--tenant", "acme", "--json"),
    ("audit", "rotate"): ("--tenant", "acme", "--yes", "--json"),
    ("tools", "list"): ("--tenant", "acme", "--json"),
    ("tools", "diff"): ("--tenant", "acme", "--json"),
    ("tools", "approve"): ("--all", "--agent", "ada", "--tenant", "acme", "--yes", "--json"),
    ("tools", "hints"): ("--tenant", "acme", "--json"),
    ("token", "list"): _ADMINISTRATOR,
    ("token", "revoke"): _ADMINISTRATOR,
    ("token", "issue"): ("--tenant", "acme", "--agent", "ada", "--json"),
    ("check",): ("ada", "--tenant", "acme", "--adapter", "none", "--json"),
    ("verify",): ("{contract}", "--tenant", "acme", "--agent", "ada", "--json"),
    ("equivalent",): "has homes of its own",
    ("contract", "lint"): _FILES,
    ("contract", "diff"): _FILES,
    ("contract", "bind"): ("{contract}", "--tenant", "acme", "--json"),
    ("contract", "explain"): ("{contract}", "--tenant", "acme", "--json"),
    ("ledger", "show"): ("--tenant", "acme", "--agent", "ada", "--json"),
    ("ledger", "alerts"): ("--tenant", "acme", "--json"),
    ("ledger", "limit"): ("tokens", "9000", "--tenant", "acme"),
    ("workflow", "run"): ("asks", "--tenant", "acme", "--run", "new-ada", "--json"),
    ("workflow", "list"): ("--tenant", "acme", "--json"),
    ("workflow", "show"): ("show-ada", "--tenant", "acme", "--json"),
    ("workflow", "resume"): ("resume-ada", "--tenant", "acme", "--json"),
    ("workflow", "answer"): ("answer-ada", "ok", "--approve", "--yes", "--tenant", "acme"),
    ("workflow", "cancel"): ("cancel-ada", "--tenant", "acme", "--json"),
    ("agent", "list"): ("--tenant", "acme", "--json"),
    ("agent", "show"): ("ada", "--tenant", "acme", "--json"),
    ("agent", "spawn"): ("ada-spawned", "--tenant", "acme", "--json"),
    ("agent", "pause"): ("ada-running", "--tenant", "acme", "--json"),
    ("agent", "resume"): ("ada-paused", "--tenant", "acme", "--json"),
    ("agent", "kill"): ("ada-killed", "--tenant", "acme", "--yes", "--json"),
    ("agent", "checkpoint"): ("ada-running", "--tenant", "acme", "--json"),
    ("agent", "restore"): ("ada-kept", "good", "--tenant", "acme", "--json"),
    ("agent", "fork"): ("ada-kept", "ada-forked", "--tenant", "acme", "--json"),
    ("agent", "delegate"): ("ada", "ada-delegated", "--tenant", "acme", "--json"),
    ("agent", "delegations"): ("--tenant", "acme", "--json"),
    ("agent", "revoke"): ("ada-trusted", "--tenant", "acme"),
    ("grant", "give"): ("ada", "--tool", "t", "--from", "m", "--tenant", "acme", "--yes", "--json"),
    ("grant", "list"): ("--tenant", "acme", "--json"),
    ("grant", "end"): _ADMINISTRATOR,
    ("agent", "export"): ("ada-kept", "{contract}.fmos", "--tenant", "acme", "--json"),
    ("agent", "import"): (
        "{moved}",
        "--trust-key",
        "{key}",
        "--as",
        "ada-moved",
        "--tenant",
        "acme",
        "--json",
    ),
    ("versions", "list"): ("--tenant", "acme", "--json"),
    ("versions", "show"): ("prompt", "ada", "{version}", "--tenant", "acme", "--json"),
    ("versions", "propose"): (
        "prompt",
        "ada-new",
        "{contract}",
        "--why",
        "w",
        "--tenant",
        "acme",
        "--json",
    ),
    ("versions", "evaluate"): (
        "prompt",
        "ada",
        "{version}",
        "--journal",
        "--command",
        "{metric}",
        "--tenant",
        "acme",
    ),
    ("versions", "canary"): (
        "prompt",
        "ada-canary",
        "{version}",
        "--override",
        "w",
        "--tenant",
        "acme",
        "--json",
    ),
    ("versions", "accept"): (
        "prompt",
        "ada-accept",
        "{version}",
        "--override",
        "w",
        "--tenant",
        "acme",
        "--json",
    ),
    ("versions", "reject"): (
        "prompt",
        "ada-reject",
        "{version}",
        "--why",
        "w",
        "--tenant",
        "acme",
        "--json",
    ),
    ("versions", "rollback"): (
        "prompt",
        "ada-rollback",
        "--why",
        "w",
        "--tenant",
        "acme",
        "--json",
    ),
    ("versions", "freeze"): (
        "prompt",
        "ada-accepted",
        "--why",
        "w",
        "--tenant",
        "acme",
        "--json",
    ),
    ("versions", "unfreeze"): (
        "prompt",
        "ada-frozen",
        "--why",
        "w",
        "--tenant",
        "acme",
        "--json",
    ),
    ("versions", "log"): ("--tenant", "acme", "--json"),
    ("versions", "report"): (
        "resolved",
        "1",
        "--agent",
        "ada",
        "--session",
        "s1",
        "--tenant",
        "acme",
        "--json",
    ),
    ("versions", "watch"): _ADMINISTRATOR,
    ("replay",): (SESSION, "--agent", "bob", "--tenant", "acme", "--json"),
    ("report",): ("--tenant", "acme", "--by", "agent", "--json"),
    ("policy", "draft"): _FILES,
    ("policy", "lint"): ("{policy}", "--agent", "ada", "--tenant", "acme", "--json"),
    ("policy", "show"): ("ada", "--tenant", "acme", "--json"),
    ("policy", "test"): (
        "{policy}",
        "--agent",
        "ada",
        "--tenant",
        "acme",
        "--calls",
        "{calls}",
        "--json",
    ),
    ("policy", "explain"): ("read_file", "--agent", "ada", "--tenant", "acme", "--json"),
    ("traps", "train"): _FILES,
    ("traps", "eval"): _FILES,
    ("traps", "show"): ("ada", "--tenant", "acme", "--json"),
}


@pytest.fixture(scope="module")
def planted() -> Iterator[Path]:
    """A home with a marker of each victim in everything that is kept."""
    with tempfile.TemporaryDirectory(prefix="fmos", dir="/tmp") as folder:
        home = Path(folder) / "h"
        (home / "contracts").mkdir(parents=True)
        for agent in ("ada", "bob"):
            text = CONTRACT.replace("ada", agent).replace("fs.write", "process.run")
            (home / "contracts" / f"{agent}.yaml").write_text(text)
        (home / "contracts" / "asks.yaml").write_text(_ASKS)
        # The daemon's own work changes every tenant's state; it is not what is tried here.
        (home / "fmos.toml").write_text(_NO_JOBS)
        yield home


@pytest.fixture(scope="module")
def world(planted: Path) -> Iterator[World]:
    """The planted home, served."""
    with Kernel.open(planted) as kernel:
        plants = {name: _plant(kernel, name, who) for name, who in VICTIMS.items()}
        kernel.agent_fs(ATTACKER)
        for run in ("show-ada", "resume-ada", "answer-ada", "cancel-ada"):
            for tenant in ("acme", plants["tenant"].who.tenant):
                asked = {} if tenant == "acme" else {"secret": plants["tenant"].marker}
                Runner(kernel).start(load_as(Workflow, _ASKS), asked, tenant=tenant, run=run)
        _live(kernel, planted / "ada.moved")
        key = kernel.keys_of("acme").public_key
        _propose(kernel)
    (planted / "metric").write_text(_METRIC)
    (planted / "metric").chmod(0o700)
    token = issue(planted, ATTACKER)
    with daemon(planted, "--port", "0") as (_, lines):
        yield World(planted, f"http://127.0.0.1:{port_of(lines)}", token, key, plants)


def _live(kernel: Kernel, moved: Path) -> None:
    """Make the agents of the attacker's tenant that the commands of `fmos agent` are tried on."""
    lives = Lifecycle(kernel)
    for name in ("ada-running", "ada-paused", "ada-killed", "ada-kept"):
        lives.spawn(Principal(tenant="acme", agent=name))
    lives.pause(Principal(tenant="acme", agent="ada-paused"))
    kept = Principal(tenant="acme", agent="ada-kept")
    lives.checkpoint(kept, "good")
    export_agent(kernel, kept, moved)
    sub = Principal(tenant="acme", agent="ada-trusted")
    delegate(kernel, ATTACKER, sub, Scope(), ttl_s=3_600)
    Grants(kernel).give(ATTACKER, Source(tool="m"), ["t"], ttl_s=3_600)


def _propose(kernel: Kernel) -> None:
    """Make the versions of the attacker's tenant that `fmos versions` is tried on."""
    versions = Versions(kernel)

    def propose(name: str, content: bytes = _PROMPT) -> Candidate:
        return versions.propose("acme", "prompt", name, content, author="agent:a", why="w")

    for name in ("ada", "ada-canary", "ada-accept", "ada-reject"):
        propose(name)
    for name in ("ada-rollback", "ada-accepted", "ada-frozen"):
        versions.accept(propose(name, b"older"), by="user:ann", override="w")
        versions.accept(propose(name), by="user:ann", override="w")
    versions.freeze("acme", "prompt", "ada-frozen", by="user:ann", why="w")


def _secret(plant: Plant) -> str:
    return "ghp_" + hashlib.sha256(plant.marker.encode()).hexdigest()[:36]


def _settled(plant: Plant) -> dict[str, Any]:
    return {
        "operation": _operation(plant),
        "outcome": {"operation": plant.run["id"], "status": "failed"},
        "observation": {"operation": plant.run["id"], "source": "page", "text": "hello"},
    }


def _plant(kernel: Kernel, name: str, who: Principal) -> Plant:
    """Put a victim's marker into everything that the servers keep."""
    plant = Plant(who, f"zq{name}marker")
    marker = plant.marker
    files = kernel.agent_files(who)
    files.write("/secret.txt", f"the {marker} file".encode())
    files.mkdir("/artefacts/policy", parents=True)
    files.write("/artefacts/policy/p", f"the {marker} artefact".encode())
    in_session = who.model_copy(update={"session": SESSION})
    with connect(in_session, kernel=kernel) as client:
        written = {"text": f"the {marker} plan of records", "tags": [marker], "source": marker}
        plant.ids["memory"] = client.call("memory_write", written)["id"]
        client.call("context_open", {"system": f"you keep the {marker} plan"})
        long = f"the {marker} plan of records\n" * 2000
        item = client.call("context_append", {"role": "tool", "text": long, "name": "read"})
        plant.ids |= {"item": item["item"], "handle": item["handle"]}
        deploy = {"capability": "process.run", "effect": "execute", "roles": {"command": "command"}}
        tools = [{"name": "deploy", **deploy}, {"name": f"deploy_{marker}", **deploy}]
        client.call("trust_register_tools", {"tools": tools})
        asked = client.call("trust_check", {"operation": plant.run})
        assert asked["decision"] == "ask", asked
        plant.ids["approval"] = asked["approval"]
        Approvals(kernel).decide(asked["approval"], True, approver="person")
        other = {**plant.run, "id": "f" * 32, "arguments": {"command": f"other {marker}"}}
        assert client.call("trust_check", {"operation": other})["decision"] == "ask"
        seen = {"source": marker, "text": f"token = {_secret(plant)}"}
        done = {"operation": plant.run["id"], "status": "ok"}
        with suppress(FmosError):  # a gate may not take an outcome of what only was asked
            client.call("trust_settle", {"outcome": done, "observation": seen})
        plant.ids["model"] = hashlib.sha256(marker.encode()).hexdigest()[:32]
        call = {"kind": "model.generate", "name": "m", "id": plant.ids["model"]}
        admitted = client.call(
            "budget_admit", {"operation": {**call, "cost_estimate": {"tokens": 7}}}
        )
        plant.ids["reservation"] = admitted["reservation"]
    return plant


def test_every_tool_and_command_is_tried():
    """The tables above name each tool of each server and each command, and nothing else."""
    found = discover()
    assert not found.missing
    with tempfile.TemporaryDirectory() as folder, Kernel.open(folder) as kernel:
        toolsets = [cls(kernel) for cls in found.require().values()]
        assert {spec.name for tools in toolsets for spec, _ in tools.tools()} == ATTACKS.keys()
    commands = dict(_commands(typer.main.get_command(app)))
    assert commands.keys() <= COMMANDS.keys()
    for path, command in commands.items():
        takes_tenant = any("--tenant" in parameter.opts for parameter in command.params)
        assert not takes_tenant or isinstance(COMMANDS[path], tuple), f"try {path} across tenants"


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("door", DOORS)
def test_no_tool_reaches_another(world, door, victim):
    """Through every door, every tool with the victim's ids: no marker comes, nothing changes."""
    plant = world.plants[victim]
    before = _state(world.home, victim)
    with _client(world, door) as client:
        for tool in ATTACKS:
            for arguments in _variants(client, tool, plant):
                said = _said(client, tool, arguments)
                told = json.dumps(arguments)
                world.told.update(_texts(arguments))
                if tool == "trust_policy_dry_run":  # it tries the caller's own earlier calls
                    said = _without(said, world.told)
                assert plant.marker in told or plant.marker not in said, f"{tool} {told}: {said}"
    after = _state(world.home, victim)
    assert after.keys() == before.keys()
    assert [name for name in before if before[name] != after[name]] == []


def test_a_marker_is_found_where_it_is(world):
    """The victim itself gets its marker from these very calls: the test can see a leak."""
    plant = world.plants["tenant"]
    who = plant.who.model_copy(update={"session": SESSION})
    with connect(who, home=world.home, transport="daemon") as client:
        for tool in ("memory_search", "memory_get", "context_compose", "context_read",
                     "trust_table", "trust_pending"):  # fmt: skip
            assert plant.marker in _said(client, tool, ATTACKS[tool](plant)[0]), tool
    assert any(plant.marker in row for row in _rows(world.home, "tenant")["trust_approval"])


def test_a_stolen_name_does_not_help(world):
    """With its own token, the attacker cannot be any victim, whatever its client says."""
    for plant in world.plants.values():
        with connect(plant.who, transport=world.url, token=world.token) as client:
            for tool, attack in ATTACKS.items():
                with pytest.raises(PrincipalError) as caught:
                    client.call(tool, attack(plant)[0])
                assert plant.marker not in str(caught.value)


def test_no_marker_in_the_attackers_volume(world):
    """The other tenant's markers and ids are nowhere in the attacker's volume or journal."""
    plant = world.plants["tenant"]
    kept = "".join(row for rows in _dump(world.home / "tenants" / "acme.afs") for row in rows)
    assert "zqagentmarker" in kept, "the dump shows what is there"
    assert plant.marker not in kept
    raw = b"".join(path.read_bytes() for path in (world.home / "tenants").glob("acme.afs*"))
    assert plant.marker.encode() not in raw


@pytest.mark.parametrize(
    "path", [path for path, how in COMMANDS.items() if not isinstance(how, str)]
)
def test_no_command_reaches_another_tenant(world, path):
    """A command that is told one tenant prints nothing of another, and changes nothing of it."""
    before = _state(world.home, "tenant")
    contract = str(world.home / "contracts" / "ada.yaml")
    places = {
        "contract": contract,
        "version": hashlib.sha256(_PROMPT).hexdigest(),
        "moved": world.home / "ada.moved",
        "key": world.key,
        "metric": world.home / "metric",
        "policy": world.home / "contracts" / "ada.rules",
        "calls": world.home / "contracts" / "ada.calls",
    }
    places["policy"].write_text(_RULES)
    places["calls"].write_text('{"tool": "read_file", "arguments": {"path": "/ada"}}\n')
    how = [word.format_map(places) for word in COMMANDS[path]]
    answer = CliRunner().invoke(app, ["--home", str(world.home), *path, *how])
    # 1: `check` found a gap; 24: a workflow waits for a person.
    assert answer.exit_code in (0, 1, 24), answer.output
    assert "acme" in answer.output or "ada" in answer.output
    assert world.plants["tenant"].marker not in answer.output
    assert "globex" not in answer.output
    assert _state(world.home, "tenant") == before


def _client(world: World, door: str) -> Any:
    if door == "token":
        return connect(ATTACKER, transport=world.url, token=world.token)
    return connect(
        ATTACKER, home=world.home, transport="daemon" if door == "socket" else "inprocess"
    )


def _variants(client: Any, tool: str, plant: Plant) -> Iterator[dict[str, Any]]:
    """Each attack plainly, in the victim's session, and under each way to write its agent."""
    who = plant.who
    agents = [who.agent, who.agent_key, f"{who.tenant}/{who.agent}", str(who), "../bob", "*"]
    for arguments in ATTACKS[tool](plant):
        yield arguments
        yield {**arguments, "session": SESSION}
        for agent in dict.fromkeys(agents):
            yield {**arguments, "agent": agent}
            yield {**arguments, "agent": agent, "session": SESSION}
        for name in ("tenant", "application", "role", "branch"):
            yield {**arguments, name: getattr(who, name) or who.agent_key}
        # Account paths and branch names in the place of ids.
        yield {**arguments, "session": f"{SEGMENTS['agent']}/session:{SESSION}"}


def _texts(value: Any) -> Iterator[str]:
    """Every text in arguments, as an answer in JSON would hold it."""
    if isinstance(value, str):
        yield json.dumps(value)[1:-1]
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _without(said: str, told: set[str]) -> str:
    """An answer without the texts that the caller itself has sent."""
    for text in sorted(told, key=len, reverse=True):
        said = said.replace(f'"{text}"', '""')
    return said


def _said(client: Any, tool: str, arguments: dict[str, Any]) -> str:
    """Everything that a call tells: its answer, or its error with all that it carries."""
    try:
        return json.dumps(client.call(tool, arguments))
    except FmosError as error:
        if "unexpectedly" in str(error):
            pytest.fail(f"{tool} {arguments}: {error}")
        return f"{error} {vars(error)}"


def _state(home: Path, victim: str) -> dict[str, Any]:
    """What the victim has: rows in kernel.db, files, and the volume where that is its own."""
    who = VICTIMS[victim]
    state: dict[str, Any] = {
        f"kernel.db {name}": rows for name, rows in _rows(home, victim).items()
    }
    if victim == "tenant":
        for number, rows in enumerate(_dump(home / "tenants" / f"{who.tenant}.afs")):
            state[f"volume {number}"] = rows
    with Kernel.open(home) as kernel:
        fs = kernel.agent_fs(who)
        for folder, _, names in fs.walk("/"):
            for name in names:
                path = f"{folder.rstrip('/')}/{name}"
                state[f"file {path}"] = hashlib.sha256(fs.read(path)).hexdigest()
        rows = kernel.volume(who.tenant).journal(since=0)
        state["journal"] = [row.hash.hex() for row in rows if row.branch == who.branch_name]
    assert any(name.startswith("file /.fmos") for name in state)
    return state


def _rows(home: Path, victim: str) -> dict[str, list[str]]:
    """The rows of kernel.db that are the victim's, by table."""
    who = VICTIMS[victim]
    segment = SEGMENTS[victim]
    found: dict[str, list[str]] = {}
    with apsw.Connection(str(home / "kernel.db"), flags=apsw.SQLITE_OPEN_READONLY) as connection:
        named = "SELECT id FROM account WHERE path || '/' LIKE ?"
        accounts = {row[0] for row in connection.execute(named, (f"%{segment}/%",))}
        assert accounts
        for table, columns, row in _all_rows(connection):
            cells = dict(zip(columns, row, strict=True))
            own = cells.get("tenant") == who.tenant and (
                victim == "tenant" or cells.get("agent") == who.agent_key
            )
            # A price moves with the demand of everybody below the same tenant.
            spends = accounts & {cells.get("account"), cells.get("scope")} and table != "demand"
            if own or spends or any(f"{segment}/" in f"{cell}/" for cell in row):
                found.setdefault(table, []).append(repr(row))
    return found


def _dump(path: Path) -> list[list[str]]:
    """All rows of a volume, one list a table, without waking the volume."""
    with tempfile.TemporaryDirectory() as folder:
        for part in path.parent.glob(f"{path.name}*"):
            shutil.copy(part, folder)
        with apsw.Connection(str(Path(folder) / path.name)) as connection:
            tables: dict[str, list[str]] = {}
            for table, _, row in _all_rows(connection):
                tables.setdefault(table, []).append(repr(row))
    return list(tables.values())


def _all_rows(connection: apsw.Connection) -> Iterator[tuple[str, list[str], tuple[Any, ...]]]:
    listed = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    for (table,) in connection.execute(listed).fetchall():
        with suppress(apsw.SQLError):  # a table of an extension that is not loaded here
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
            for row in connection.execute(f'SELECT * FROM "{table}"').fetchall():
                yield table, columns, row


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, found in command.commands.items():
        if hasattr(found, "commands"):
            yield from _commands(found, (*path, name))
        else:
            yield (*path, name), found
