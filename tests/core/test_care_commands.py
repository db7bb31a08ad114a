"""`fmos backup`, `restore`, `upgrade` and `doctor` as commands: exit codes, JSON and sentences."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_cli.main import app


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a file of an agent."""
    with Kernel.open(tmp_path / "home") as kernel:
        kernel.keys_of("default")
        kernel.agent_files(Principal(agent="writer")).write("/a.txt", "kept\n")
    return tmp_path / "home"


def _fmos(home: Path, *arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["--home", str(home), *map(str, arguments)])
    assert "Traceback" not in result.output
    return result


def _json(result: Result) -> dict[str, Any]:
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_backup_verify_restore_as_json(home: Path, tmp_path: Path) -> None:
    """Each command prints one JSON object that names the file, the home and what is in it."""
    file = tmp_path / "b.fmos"
    made = _json(_fmos(home, "backup", file, "--json"))
    assert made["file"] == str(file)
    assert made["manifest"]["volumes"]["default"]["journal_rows"] >= 2
    assert _json(_fmos(home, "backup", "verify", file, "--quick", "--json"))["faults"] == []
    assert _json(_fmos(home, "restore", "--check", file, "--json"))["faults"] == []
    done = _json(_fmos(tmp_path / "new", "restore", file, "--json"))
    assert (done["home"], done["kept"]) == (str(tmp_path / "new"), "")
    assert done["notes"]


def test_exit_codes_of_backup(home: Path, tmp_path: Path) -> None:
    """3 where no home is, 5 for a target that cannot be, 13 for a damaged file, 2 for misuse."""
    file = tmp_path / "b.fmos"
    assert _fmos(tmp_path / "none", "backup", file).exit_code == 3
    assert not (tmp_path / "none").exists()
    assert _fmos(home, "backup", home / "b.fmos").exit_code == 5
    assert _fmos(home, "backup", file).exit_code == 0
    assert _fmos(home, "backup", file).exit_code == 5
    assert _fmos(home, "backup", file, file).exit_code == 2
    forgotten = _fmos(home, "backup", "verify")
    assert (forgotten.exit_code, Path("verify").exists()) == (2, False)
    assert "name the backup" in forgotten.stderr
    assert _fmos(home, "restore", file).exit_code == 3
    os.truncate(file, file.stat().st_size // 2)
    assert _fmos(home, "backup", "verify", file).exit_code == 13
    assert _fmos(home, "backup", "verify", tmp_path / "nothing").exit_code == 5


def test_verify_of_a_damaged_home_exits_with_1(home: Path, tmp_path: Path) -> None:
    """A whole file that holds a damaged home is told from one that is damaged itself."""
    with open(home / "tenants" / "default.afs", "r+b") as volume:
        volume.seek(20_000)
        volume.write(b"\xff" * 8000)
    file = tmp_path / "b.fmos"
    assert "damaged" in _fmos(home, "backup", file).output
    found = _fmos(home, "backup", "verify", file)
    assert found.exit_code == 1
    assert "every byte is as it was written" in found.output
    assert _fmos(tmp_path / "new", "restore", file).exit_code == 13
    assert _fmos(tmp_path / "new", "restore", file, "--damaged").exit_code == 0
    assert (tmp_path / "new" / "tenants" / "default.afs").exists()


def test_doctor_as_json(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report lists findings with their remedies; the exit code says whether there are any."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    fine = _fmos(home, "doctor", "--only", "home", "--only", "volumes", "--json")
    assert fine.exit_code == 0
    assert {each["severity"] for each in _json(fine)["findings"]} == {"ok"}
    (home / "keys" / "default" / "digest.key").unlink()
    broken = _fmos(home, "doctor", "--only", "keys", "--json")
    assert broken.exit_code == 1
    (finding,) = _json(broken)["findings"]
    assert "missing" in finding["problem"]
    assert "backup" in finding["remedy"]
    assert _fmos(home, "doctor", "--only", "nothing").exit_code == 2
    assert _fmos(tmp_path / "none", "doctor", "--only", "home").exit_code == 1
    assert not (tmp_path / "none").exists()


def test_names_cannot_steer_the_terminal(home: Path) -> None:
    """What a file name holds is shown escaped."""
    (home / "contracts" / "a\x1b[2J.yaml").write_text("kind: [", encoding="utf-8")
    shown = _fmos(home, "doctor", "--only", "contracts").output
    assert "\x1b" not in shown
    assert "x1b" in shown


def test_upgrade_of_a_current_home(home: Path) -> None:
    """A home of this version is said to be up to date, and nothing is written beside it."""
    assert "up to date" in _fmos(home, "upgrade", "--dry-run").output
    assert _json(_fmos(home, "upgrade", "--json"))["state"] == "current"
    assert [each.name for each in home.parent.iterdir()] == ["home"]
