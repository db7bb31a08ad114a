"""`fmos versions` at the command line: what it prints as JSON, and how it says no."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos.versions.versions import Versions
from fmos_cli.commands.versions_changes import person
from fmos_cli.main import app

POLICY = b"apiVersion: agentos/v0.2\nkind: Policy\nlayer: tenant\nname: default\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with agents, one prompt that a program proposed, and a file to propose."""
    (tmp_path / "prompt.txt").write_text("be brief", encoding="utf-8")
    with Kernel.open(tmp_path / "home") as kernel:
        Versions(kernel).propose(
            "default", "prompt", "system", b"be kind", author="agent:learner", why="kinder"
        )
        for agent in ("ada", "a"):  # who reports of a session must be there
            kernel.agent_fs(Principal(agent=agent))
    return tmp_path / "home"


def run(home: Path, *arguments: str) -> tuple[int, str]:
    """Return the exit code and the output of a command."""
    found = CliRunner().invoke(app, ["--home", str(home), "versions", *arguments])
    return found.exit_code, found.output


def answer(home: Path, *arguments: str) -> dict[str, Any]:
    """Return what a command prints with --json."""
    code, output = run(home, *arguments, "--json")
    assert code == 0, output
    return json.loads(output)


def identifier(home: Path) -> str:
    """Return the id of the prompt that was proposed."""
    return str(answer(home, "list")["artefacts"][0]["versions"][0]["id"])


def test_a_candidate_goes_all_the_way(home: Path) -> None:
    """Tried, accepted, shown, held, thawed and rolled back, each answer as JSON."""
    version = identifier(home)
    artefact = ("prompt", "system")
    canary = answer(home, "canary", *artefact, version[:6], "--share", "0.5")
    assert (canary["status"], canary["authors"]) == ("canary", ["agent:learner"])
    assert answer(home, "list")["artefacts"][0]["canary"]["share"] == 0.5
    assert answer(home, "watch", "--dry-run")["canaries"][0]["artefact"] == "prompt/system"
    accepted = answer(home, "accept", *artefact, version, "--override", "read by two people")
    assert accepted["accepted_by"] == person()
    assert answer(home, "show", *artefact)["id"] == version
    assert run(home, "show", *artefact, "--content") == (0, "be kind")
    assert answer(home, "freeze", "--why", "x")["pinned"] == {"prompt/system": version}
    assert answer(home, "list", "prompt")["artefacts"][0]["frozen"]["by"] == person()
    assert answer(home, "unfreeze", "--why", "x")["frozen"] is False
    assert answer(home, "rollback", *artefact, "--why", "x")["serves"] == ""
    told = answer(home, "report", "resolved", "1", "--agent", "ada", "--session", "s1")
    assert told["principal"] == str(Principal(agent="ada", session="s1"))
    lines = run(home, "log", "--json")[1].splitlines()
    events = [json.loads(line)["event"].removeprefix("version.") for line in lines]
    assert events == [
        "propose", "canary", "accept", "freeze", "unfreeze", "rollback",
    ]  # fmt: skip
    shown = run(home, "show", *artefact, version)[1]
    assert "reverted" in shown
    assert "proposed" in shown


def test_a_rejected_candidate_is_open_no_more(home: Path) -> None:
    """The reason is in the log, and the way on in the refusal."""
    version = identifier(home)
    assert answer(home, "reject", "prompt", "system", version, "--why", "rude")["status"] == (
        "rejected"
    )
    code, output = run(home, "accept", "prompt", "system", version, "--override", "x")
    assert code == 5
    assert "is rejected" in output
    assert "rude" in run(home, "log")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "prompt", "system"), 8, "nothing is accepted"),
        (("show", "prompt", "system", "ffff"), 8, "no version 'ffff'"),
        (("accept", "prompt", "system", "{id}"), 11, "not evaluated on held-out traces"),
        (("canary", "prompt", "system", "{id}", "--share", "2"), 5, "no share of the sessions"),
        (("canary", "prompt", "system", "{id}", "--share", "1"), 5, "without a control"),
        (("rollback", "prompt", "system", "--why", "x"), 8, "nothing is accepted"),
        (("rollback", "prompt", "system", "--why", " "), 5, "a reason is missing"),
        (("unfreeze", "prompt", "--why", "x"), 8, "is not frozen"),
        (("evaluate", "prompt", "system", "{id}"), 2, "one of --traces FILE"),
        (("evaluate", "prompt", "system", "{id}", "--journal"), 5, "tells of no session"),
        (("evaluate", "prompt", "system", "{id}", "--traces", "none"), 5, "cannot read 'none'"),
        (("propose", "prompt", "system", "none", "--why", "x"), 5, "cannot read 'none'"),
        (("propose", "policy", "p", "{file}", "--why", "x"), 4, "holds no mapping"),
        (("propose", "Prompt", "system", "{file}", "--why", "x"), 5, "cannot be a kind"),
        (("propose", "prompt", "../x", "{file}", "--why", "x"), 5, "cannot be an artefact's name"),
        (("propose", "polcy", "p", "{file}", "--why", "x"), 8, "did you mean 'policy'?"),
        (("propose", "colour", "p", "{file}", "--why", "x"), 8, "add --new-kind"),
        (("freeze", "promt", "--why", "x"), 8, "did you mean 'prompt'?"),
        (("freeze", "prompt", "sytem", "--why", "x"), 8, "did you mean 'system'?"),
        (("show", "prompt", "system", "{id}", "--content", "--json"), 2, "--json does not go"),
        (("report", "a b", "1", "--agent", "a", "--session", "s"), 5, "the name of a metric"),
        (("report", "ok", "nan", "--agent", "a", "--session", "s"), 5, "no number"),
        (("propose", "prompt", "x", "{file}", "--why", "x", "--better", "up"), 2, "neither higher"),
    ],
)
def test_what_cannot_be_done_is_said(
    home: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """Each refusal names the thing, has its exit code, and changes nothing."""
    before = run(home, "list", "--json")
    places = {"{id}": identifier(home), "{file}": str(home.parent / "prompt.txt")}
    found = run(home, *(places.get(each, each) for each in arguments))
    assert found[0] == code, found[1]
    assert said in " ".join(found[1].replace("│", " ").split())
    assert run(home, "list", "--json") == before


def test_a_kind_of_ones_own_is_asked_for_and_a_new_name_is_said(home: Path) -> None:
    """Nobody gets an artefact by a slip of the pen without hearing of it."""
    file = str(home.parent / "prompt.txt")
    made = ("propose", "colour", "p", file, "--why", "x")
    assert run(home, *made, "--new-kind")[0] == 0
    assert run(home, "freeze", "colour", "--why", "x")[0] == 0
    code, said = run(home, "propose", "prompt", "systm", file, "--why", "x")
    assert (code, "prompt/systm is new; prompt/system is there already" in said) == (0, True)


def test_an_empty_log_says_so(home: Path) -> None:
    """No decision is a sentence for a person and nothing for a program."""
    assert run(home, "log", "policy") == (0, "nothing was decided of policy\n")
    assert run(home, "log", "policy", "--json") == (0, "")


def test_a_person_cannot_become_another_by_a_variable(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who proposes and who accepts is told by the login, not by the environment."""
    path = str(home.parent / "prompt.txt")
    proposed = answer(home, "propose", "prompt", "brief", path, "--why", "x")
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody-else")
    code, output = run(home, "accept", "prompt", "brief", proposed["id"], "--override", "x")
    assert code == 11
    assert f"{person()!r} proposed" in output
