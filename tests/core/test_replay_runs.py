"""Runs of verifiers and retrievers in a recorded session, run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmos.config import Home
from fmos.errors import BudgetExceededError
from fmos.plugins import retrieval
from fmos.plugins.retrieval import Retrieval
from fmos.replay import reading
from fmos.replay.again import Policy, Rerun, run_again
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos.verify import metered
from fmos.verify.metered import Verification
from fmos.verify.model import Claim

WHO = Principal(agent="ada", session="s")
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
capabilities: [fs.read, fs.write]
budgets: { verifier_runs: 2 }
security: { paths: { read: ["/docs/**", "/notes/**"] } }
"""
RIGHT = Claim(type="arithmetic", text="2 + 2 = 4")


def _again(home: Path, policy: Policy = "recorded") -> Rerun:
    place = Home(home)
    with reading.opened(place.volume("default")) as volume:
        return run_again(place, volume, "default", reading.find(volume, "s"), policy=policy)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which an agent looked something up and had claims checked, one too many."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        (home / "contracts" / "ada.yaml").write_text(CONTRACT, encoding="utf-8")
        files = kernel.agent_files(WHO)
        for folder in ("/docs", "/notes", "/private"):
            files.mkdir(folder)
            files.write(f"{folder}/bridge.txt", "The harbour bridge is grey.\n")
        hits = Retrieval(kernel).search(WHO, "harbour bridge")
        assert {each.source for each in hits} == {"/docs/bridge.txt", "/notes/bridge.txt"}
        verification = Verification(kernel)
        assert verification.verify(WHO, RIGHT).verdict == "supported"
        verification.verify(WHO, RIGHT)
        with pytest.raises(BudgetExceededError):
            verification.verify(WHO, RIGHT)
    return home


def test_runs_are_made_again_and_come_out_equal(home: Path) -> None:
    """Hits, findings and the refusal of the spent account are as they were."""
    rerun = _again(home)
    assert rerun.equal, rerun.differences
    assert (rerun.calls, rerun.compared) == (4, 4)


def test_another_contract_shows_in_them(home: Path) -> None:
    """A run under the present contract loses hits, denied verifiers, and gains paid runs."""
    path = home / "contracts" / "ada.yaml"
    path.write_text(CONTRACT.replace(', "/notes/**"', "").replace("runs: 2", "runs: 3"), "utf-8")
    found = {(each.tool, each.field) for each in _again(home, "current").differences}
    assert (retrieval.EVENT, "hits") in found
    assert (metered.EVENT, "refused") in found
    path.write_text(CONTRACT.replace("security: {", "security: { deny: [verify],"), "utf-8")
    denied = [each for each in _again(home, "current").differences if each.field == "error"]
    assert [each.tool for each in denied] == [metered.EVENT] * 3
    assert "trust.denied" in denied[0].again


def test_a_session_that_is_not_recorded_keeps_none(home: Path) -> None:
    """Where recording is off, question and claim are kept nowhere."""
    (home / "fmos.toml").write_text("[replay]\nrecord = false\n", encoding="utf-8")
    with Kernel.open(home) as kernel:
        tables = kernel.agent_fs(WHO).extension("count", "SELECT 1")
        count = tables.query("SELECT count(*) FROM ext_recording_entry")[0][0]
        Retrieval(kernel).search(WHO, "harbour")
        assert tables.query("SELECT count(*) FROM ext_recording_entry")[0][0] == count
