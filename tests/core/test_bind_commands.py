"""`fmos contract bind`, `explain` and `diff`: what they print, write, and end with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.core.test_bind import GUARD, HELPER, OFFERS
from typer.testing import CliRunner, Result

from fmos_cli.main import app

REALTIME = OFFERS + "placement: [{ name: edge, provides: [realtime] }]\n"
FLOW = """\
workflow: weekly
steps:
  - { id: hear, agent: ear, bind: smooth, contract: { modelPolicy: { allow: ["asr_local_v2..v3"] } } }
  - { id: say, agent: mouth, contract: { capabilities: [speak] } }
"""  # noqa: E501


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a home that has a catalogue, and the documents of these tests."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "catalogue.yaml").write_text(REALTIME)
    (tmp_path / "guard.yaml").write_text(GUARD)
    (tmp_path / "helper.yaml").write_text(HELPER)
    (tmp_path / "flow.yaml").write_text(FLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMOS_HOME", str(tmp_path / "home"))
    return tmp_path


def run(*arguments: str) -> Result:
    """One call of `fmos contract`, in this process."""
    return CliRunner().invoke(app, ["contract", *arguments])


def test_bind_says_what_was_chosen_and_why(place: Path) -> None:
    """The homes's catalogue counts; choice, reason and admission are printed."""
    done = run("bind", "helper.yaml", "--mode", "smooth")
    assert done.exit_code == 0
    assert done.stdout.startswith("helper bound smooth, manifest ")
    assert "asr_local_v3  (the highest version of asr_local_v2..v3 on offer)" in done.stdout
    assert "can be admitted here (SRT)" in done.stdout
    assert not list((place / "home").glob("kernel*"))  # nothing else was opened or made


def test_bind_uses_conditions_and_the_named_catalogue(place: Path) -> None:
    """`--when`, `--unhealthy` and `--catalogue` change what is chosen."""
    flexible = run("bind", "guard.yaml", "--mode", "flexible", "--when", "bandwidth_low", "--json")
    assert json.loads(flexible.stdout)["manifest"]["chosen"]["model"] == "asr_local_v2"
    ill = run("bind", "helper.yaml", "--mode", "smooth", "--unhealthy", "asr_local_v3", "--json")
    assert json.loads(ill.stdout)["manifest"]["chosen"]["model"] == "asr_local_v2"
    (place / "other.yaml").write_text("kind: Catalogue\nmodel: [asr_cloud_v2]\n")
    other = run("bind", "helper.yaml", "--catalogue", "other.yaml", "--json")
    assert json.loads(other.stdout)["manifest"]["chosen"]["model"] == "asr_cloud_v2"


def test_bind_writes_a_manifest_that_explain_and_diff_read(place: Path) -> None:
    """The file is sealed: reading it checks the hash."""
    assert run("bind", "helper.yaml", "--out", "a.json").exit_code == 0
    assert run("bind", "helper.yaml", "--mode", "smooth", "--out", "b.json").exit_code == 0
    told = run("explain", "b.json", "model")
    assert "model = asr_local_v3" in told.stdout
    assert "upgrades, by request: the highest version" in told.stdout
    assert "also looked at: asr_local_v2" in told.stdout
    differ = run("diff", "a.json", "b.json")
    assert differ.exit_code == 1
    assert "WIDER     mode: strict -> smooth" in differ.stdout
    assert sorted(path.name for path in place.glob("*.json")) == ["a.json", "b.json"]
    text = (place / "b.json").read_text()
    (place / "b.json").write_text(text.replace("asr_local_v3", "cloud_70B"))
    changed = run("explain", "b.json")
    assert changed.exit_code == 13
    assert "was changed after it was sealed" in changed.stderr


def test_a_workflow_writes_a_manifest_for_each_step(place: Path) -> None:
    """Each step is bound in its own mode, into a file of its own."""
    done = run("bind", "flow.yaml", "--out", "sealed")
    assert done.exit_code == 0
    assert "hear: ear bound smooth" in done.stdout
    assert "say: mouth bound strict" in done.stdout
    assert sorted(path.name for path in (place / "sealed").iterdir()) == ["hear.json", "say.json"]
    shown = json.loads(run("bind", "flow.yaml", "--json").stdout)
    assert shown["steps"]["hear"]["manifest"]["chosen"]["model"] == "asr_local_v3"
    told = json.loads(run("explain", "flow.yaml", "--json").stdout)
    assert set(told["steps"]) == {"hear", "say"}


def test_policies_of_the_home_or_a_folder_bind(place: Path) -> None:
    """A platform policy narrows; one of another tenant does not; a broken one refuses all."""
    head = "apiVersion: agentos/v0.2\nkind: Policy\n"
    (place / "home" / "policies").mkdir()
    policy = place / "home" / "policies" / "p.yaml"
    policy.write_text(head + "layer: tenant\nname: acme\nmust: { models: [asr_cloud_v2] }\n")
    free = json.loads(run("bind", "helper.yaml", "--json").stdout)
    bound = json.loads(run("bind", "helper.yaml", "--tenant", "acme", "--json").stdout)
    assert free["manifest"]["chosen"]["model"] == "asr_local_v2"
    assert bound["manifest"]["chosen"]["model"] == "asr_cloud_v2"
    (place / "layers").mkdir()
    (place / "layers" / "p.yaml").write_text(head + "layer: platform\nmust: { deny: [ask] }\n")
    denied = run("bind", "helper.yaml", "--policies", "layers")
    assert denied.exit_code == 15
    assert "ask not granted by the contract and its layers" in denied.stderr
    policy.write_text(head + "layer: platfrom\n")
    assert run("bind", "helper.yaml").exit_code == 4


def test_the_agents_own_contract_bounds_its_binding(place: Path) -> None:
    """A binding document of an agent that has a contract in the home stays within it."""
    contracts = place / "home" / "contracts"
    contracts.mkdir()
    text = "apiVersion: agentos/v0.2\nkind: AgentContract\nname: helper\ncapabilities: [tell]\n"
    (contracts / "helper.yaml").write_text(text)
    assert run("bind", "helper.yaml").exit_code == 15


def test_admission_can_be_demanded(place: Path) -> None:
    """Without `--admit` the refusal is shown; with it the command fails, naming the way out."""
    shown = run("bind", "guard.yaml", "--measure")
    assert shown.exit_code == 0
    assert "not to be admitted here: 'door-guard' declares no worst-case" in shown.stdout
    refused = run("bind", "guard.yaml", "--admit")
    assert refused.exit_code == 16
    assert "add `must: { wcet_ms: ... }`" in refused.stderr
    timed = GUARD.replace("deadline_ms: 10", "deadline_ms: 10, wcet_ms: 6")
    (place / "timed.yaml").write_text(timed)
    admitted = run("bind", "timed.yaml", "--admit", "--out", "timed.json")
    assert admitted.exit_code == 0
    assert "EDF fits: utilisation 60.0 %" in admitted.stdout
    both = run("bind", "timed.yaml", "--admit", "--running", "timed.json")
    assert both.exit_code == 16
    assert "utilisation 120.0 % is above 100 %" in both.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("bind", "none.yaml"), 5, "No such file"),
        (("bind", "guard.yaml", "--catalogue", "none.yaml"), 4, "No such file"),
        (("bind", "guard.yaml", "--catalogue", "flow.yaml"), 4, "is not a catalogue"),
        (("bind", "guard.yaml", "--policies", "none"), 5, "there is no folder 'none'"),
        (("bind", "guard.yaml", "--running", "guard.yaml"), 13, "is not a manifest"),
        (("bind", "guard.yaml", "--out", "guard.yaml/x.json"), 5, "name another place"),
        (("bind", "guard.yaml", "--mode", "loose"), 2, "strict"),
        (("bind", "guard.yaml", "--unhealthy", "keyword_v3"), 15, "keyword_v3 is unhealthy"),
        (("explain", "guard.yaml", "modle"), 8, "did you mean 'model'?"),
        (("diff", "guard.yaml", "flow.yaml"), 5, "cannot be compared"),
        (("diff", "guard.yaml", "none.yaml"), 5, "No such file"),
    ],
)
def test_a_failure_is_a_sentence_with_its_code(
    place: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """Documented exit codes; the way out is named; nothing is left behind."""
    before = sorted(place.iterdir())
    done = run(*arguments)
    assert done.exit_code == code
    assert said in done.stderr
    assert sorted(place.iterdir()) == before


def test_diff_of_the_same_document_says_so(place: Path) -> None:
    """Exit code 0, and in JSON `same`."""
    done = run("diff", "guard.yaml", "guard.yaml")
    assert (done.exit_code, done.stdout) == (0, "the same\n")
    shown = json.loads(run("diff", "guard.yaml", "guard.yaml", "--json").stdout)
    assert shown == {"same": True, "wider": 0, "changes": []}
    (place / "new.yaml").write_text(GUARD.replace("keyword_v3", "keyword_v4"))
    shown = json.loads(run("diff", "guard.yaml", "new.yaml", "--json").stdout)
    assert (shown["same"], shown["wider"]) == (False, 1)
    assert shown["changes"][1] == {
        "field": "must.model",
        "effect": "wider",
        "said": "granted keyword_v4",
    }


def test_a_full_disk_leaves_the_old_manifest(place: Path) -> None:
    """A real process on a limit of file size: the sentence, and not half a file."""
    assert run("bind", "guard.yaml", "--out", "m.json").exit_code == 0
    old = (place / "m.json").read_bytes()
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64));"
        "from fmos_cli.main import main; sys.argv[0] = 'fmos'; main()"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, "contract", "bind", "helper.yaml", "--out", "m.json"],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=60,
        check=False,
    )
    assert done.returncode == 5
    assert "cannot write 'm.json': File too large" in done.stderr
    assert (place / "m.json").read_bytes() == old
    assert [path.name for path in place.iterdir() if path.name.startswith(".m.json")] == []


@pytest.mark.parametrize("name", ["bind", "explain", "diff"])
def test_help_has_an_example(name: str) -> None:
    """`--help` shows how it is called and its exit codes."""
    done = run(name, "--help")
    assert f"fmos contract {name} " in done.stdout
    assert "Exit codes" in done.stdout
