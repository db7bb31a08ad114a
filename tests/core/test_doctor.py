"""The doctor: a home broken in any way gives a finding with a remedy, and never a traceback."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import apsw
import pytest

from fmos.care.checks import CHECKS
from fmos.care.doctor import Check, Finding, Patient, Report, examine, ok
from fmos.contract.projectfolder import read_folder
from fmos.runtime.kernel import Kernel
from fmos.serving.app import version
from fmos.types import Principal

_WHO = Principal(agent="writer", session="monday")
_CONTRACT = """apiVersion: agentos/v0.2
kind: AgentContract
name: writer
class: { latency: DT }
capabilities: ["read_file"]
budgets: { tokens: 50k }
"""
_POLICY = """apiVersion: agentos/v0.2
kind: Policy
layer: platform
must: { deny: ["email.send"] }
"""
_HEAVY = ("optional parts", "versions")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a home that has something of everything, and a project that is trusted."""
    folder = tmp_path_factory.mktemp("sound")
    home, project = folder / "home", folder / "project"
    (project / ".fmos" / "policies").mkdir(parents=True)
    (project / ".fmos" / "policies" / "p.yaml").write_text(_POLICY, encoding="utf-8")
    with Kernel.open(home) as kernel:
        kernel.keys_of("default")
        kernel.agent_files(_WHO).write("/note.txt", "kept\n")
        kernel.agent_files(_WHO).write("/big.bin", random.Random(1).randbytes(300_000))
        held = kernel.reserve(_WHO, {"tokens": 40}, operation="one")
        kernel.ledger.commit(held.id, {"tokens": 30})
        kernel.reserve(_WHO, {"tokens": 7}, operation="open")
    (home / "contracts" / "writer.yaml").write_text(_CONTRACT, encoding="utf-8")
    (home / "policies" / "house.yaml").write_text(_POLICY, encoding="utf-8")
    return folder


@pytest.fixture
def home(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound home, to be broken."""
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    return tmp_path / "home"


def _look(home: Path, *, fix: bool = False, only: str = "", deep: bool = False) -> Report:
    patient = Patient(
        home=home, user_home=home.parent / "user", project=home.parent / "project",
        environ={"PATH": os.environ["PATH"]}, version=version(), deep=deep,
    )  # fmt: skip
    chosen = [c for c in CHECKS if (c.name == only if only else c.name not in _HEAVY)]
    return examine(patient, chosen, fix=fix)


def _faults(report: Report) -> list[str]:
    return [
        f"{each.check}: {each.thing}: {each.problem} -> {each.remedy}"
        for each in report.findings
        if each.severity in ("warning", "error")
    ]


def test_a_sound_home_is_fine(home: Path) -> None:
    """Nothing is wrong with a home that FMOS made, in depth either; the exit code is 0."""
    report = _look(home, deep=True)
    assert _faults(report) == []
    assert report.exit_code == 0
    assert {each.check for each in report.findings} >= {"kernel.db", "ledger", "volumes", "keys"}


def test_it_changes_nothing(home: Path) -> None:
    """Every file of the home, its mode and its time are as they were."""

    def state() -> dict[str, tuple[str, int, int]]:
        return {
            str(path): (sha256(path.read_bytes()).hexdigest(), path.stat().st_mode,
                        path.stat().st_mtime_ns)
            for path in sorted(home.rglob("*")) if path.is_file()
        }  # fmt: skip

    _break_mode(home)
    (home / "policies" / "bad.yaml").write_text("kind: [", encoding="utf-8")
    before = state()
    assert _look(home, deep=True).exit_code == 1
    assert state() == before


# -- ways to break a home -------------------------------------------------------------------------


def _sql(home: Path, sql: str, name: str = "kernel.db") -> None:
    connection = apsw.Connection(str(home / name))
    connection.execute(sql).fetchall()
    connection.close()


def _volume_sql(sql: str) -> Callable[[Path], None]:
    return lambda home: _sql(home, sql, "tenants/default.afs")


def _kernel_sql(sql: str) -> Callable[[Path], None]:
    return lambda home: _sql(home, sql)


def _write(name: str, data: bytes) -> Callable[[Path], None]:
    def break_it(home: Path) -> None:
        (home / name).write_bytes(data)

    return break_it


def _remove(name: str) -> Callable[[Path], None]:
    def break_it(home: Path) -> None:
        path = home / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return break_it


def _scramble(name: str, at: int, size: int = 4096) -> Callable[[Path], None]:
    def break_it(home: Path) -> None:
        with open(home / name, "r+b") as file:
            file.seek(at)
            file.write(random.Random(at).randbytes(size))

    return break_it


def _truncate(name: str, share: float) -> Callable[[Path], None]:
    def break_it(home: Path) -> None:
        size = (home / name).stat().st_size
        os.truncate(home / name, int(size * share))

    return break_it


def _break_mode(home: Path) -> None:
    (home / "keys").chmod(0o755)


def _stale_socket(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(home / "run" / "fmos.sock"))


def _other_key(home: Path) -> None:
    with Kernel.open(home.parent / "elsewhere") as kernel:
        kernel.keys_of("default")
    shutil.copy(home.parent / "elsewhere/keys/default/audit.pem", home / "keys/default/audit.pem")


def _changed_project(home: Path) -> None:
    with Kernel.open(home) as kernel:
        kernel.projects.trust(read_folder(str(home.parent / "project")), "user:me")
    more = home.parent / "project" / ".fmos" / "policies" / "more.yaml"
    more.write_text(_POLICY.replace("email", "mail"), encoding="utf-8")


def _in_doubt(home: Path) -> None:
    from fmos.steps.store import StepStore

    with Kernel.open(home) as kernel:
        StepStore(kernel.database)
    _sql(
        home,
        "INSERT INTO step(tenant, run, key, id, principal, effect, inputs, state, attempt,"
        " since_ns) VALUES ('default', 'r', 'k', 'i', '{}', 'outside', '{}', 'in_doubt', 1, 1)",
    )


def _client(entry: dict[str, object], file: str = ".cursor/mcp.json") -> Callable[[Path], None]:
    def break_it(home: Path) -> None:
        path = home.parent / "project" / file
        path.parent.mkdir(exist_ok=True)
        key = "servers" if "vscode" in file else "mcpServers"
        path.write_text(json.dumps({key: {"memory": entry}}), encoding="utf-8")

    return break_it


def _claude_project(home: Path) -> None:
    (home.parent / "user").mkdir()
    entry = {"command": "/none/fmos-trust-gate", "env": {"FMOS_HOME": str(home)}}
    document = {"projects": {"/work/x": {"mcpServers": {"gate": entry}}}}
    (home.parent / "user" / ".claude.json").write_text(json.dumps(document), encoding="utf-8")


def _future_row(home: Path) -> None:
    _sql(home, f"UPDATE journal SET time_ns = {time.time_ns() + 10**16}", "tenants/default.afs")


def _folder_as_database(home: Path) -> None:
    (home / "kernel.db").unlink()
    (home / "kernel.db").mkdir()


def _file_for_folder(home: Path) -> None:
    shutil.rmtree(home / "contracts")
    (home / "contracts").touch()


def _home_is_file(home: Path) -> None:
    shutil.rmtree(home)
    home.write_text("x", encoding="utf-8")


def _home_dangles(home: Path) -> None:
    shutil.rmtree(home)
    home.symlink_to("/nonexistent/home")


_BREAKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no home": (lambda home: shutil.rmtree(home), "not there"),
    "the home is a file": (_home_is_file, "is a file"),
    "the home is a dead link": (_home_dangles, "leads nowhere"),
    "keys folder open": (_break_mode, "others may use it"),
    "home open": (lambda home: home.chmod(0o777), "others may use it"),
    "kernel.db open": (lambda home: (home / "kernel.db").chmod(0o644), "others may use it"),
    "key file open": (
        lambda home: (home / "keys/default/audit.pem").chmod(0o640), "can be read by others",
    ),
    "no kernel.db": (_remove("kernel.db"), "accounts and agents are lost"),
    "empty kernel.db": (_write("kernel.db", b""), "tables are not there"),
    "kernel.db of something else": (_write("kernel.db", b"hello" * 1000), "not a database"),
    "kernel.db is a folder": (_folder_as_database, "kernel.db"),
    "kernel.db cut": (_truncate("kernel.db", 0.5), "kernel.db"),
    "kernel.db scrambled": (_scramble("kernel.db", 8192, 16384), "kernel.db"),
    "kernel.db newer": (
        _kernel_sql("UPDATE component SET version = 99 WHERE name = 'agents'"),
        "version 99, newer than",
    ),
    "kernel.db older": (
        _kernel_sql("UPDATE component SET version = 0 WHERE name = 'trusted'"), "fmos upgrade",
    ),
    "a table is gone": (
        _kernel_sql("DROP TABLE balance; DROP TABLE tenant_key"), "2 tables are not there",
    ),
    "component is gone": (_kernel_sql("DROP TABLE component"), "'component'"),
    "balances raised": (_kernel_sql("UPDATE balance SET reserved = reserved + 5"), "reserved"),
    "spending removed": (
        _kernel_sql("UPDATE balance SET spent = 0 WHERE account = 1"), "less than the",
    ),
    "a reservation is no JSON": (
        _kernel_sql("UPDATE reservation SET amounts = '{'"), "cannot be read",
    ),
    "an account is no account": (_kernel_sql("UPDATE account SET path = 'x' || id"), "account"),
    "volume scrambled": (_scramble("tenants/default.afs", 40960, 65536), "default.afs"),
    "volume cut": (_truncate("tenants/default.afs", 0.6), "default.afs"),
    "volume empty": (_write("tenants/default.afs", b""), "no agentfs volume"),
    "volume of something else": (_write("tenants/default.afs", b"x" * 9999), "not a database"),
    "volume newer": (_volume_sql("PRAGMA user_version = 99"), "newer than"),
    "volume is another file's": (_volume_sql("PRAGMA application_id = 5"), "no agentfs volume"),
    "a journal row changed": (
        _volume_sql("UPDATE journal SET detail = '{\"x\":1}' WHERE seq = 2"), "journal row 2",
    ),
    "a journal row removed": (_volume_sql("DELETE FROM journal WHERE seq = 1"), "journal row"),
    "a node removed": (
        _volume_sql("DELETE FROM node WHERE id = (SELECT max(id) FROM node)"), "missing node",
    ),
    "a volume's table is gone": (_volume_sql("DROP TABLE quota"), "default.afs"),
    "a stranger among volumes": (_write("tenants/.afs", b""), "no tenant's"),
    "no digest key": (_remove("keys/default/digest.key"), "is missing"),
    "no keys": (_remove("keys/default"), "is missing"),
    "another key": (_other_key, "another key"),
    "key is no key": (_write("keys/default/audit.pem", b"nothing"), "not a private key"),
    "digest key cut": (_write("keys/default/digest.key", b"short"), "32 bytes"),
    "a contract is no YAML": (_write("contracts/bad.yaml", b"name: [\n"), "bad.yaml"),
    "a contract is binary": (_write("contracts/bad.yaml", b"\xff\xfe\0"), "bad.yaml"),
    "a contract has a wrong field": (
        _write("contracts/bad.yaml", _CONTRACT.replace("DT", "ABC").encode()), "latency",
    ),
    "a contract among policies": (
        _write("policies/c.yaml", _CONTRACT.encode()), "not a Policy",
    ),
    "a policy is broken": (_write("policies/bad.yaml", b"kind: Policy\n"), "bad.yaml"),
    "contracts is a file": (_file_for_folder, "no folder"),
    "the catalogue is broken": (_write("catalogue.yaml", b"kind: Cat\n"), "not a catalogue"),
    "settings are no TOML": (_write("fmos.toml", b"[audit\n"), "not TOML"),
    "settings have a wrong key": (_write("fmos.toml", b"[nothing]\na = 1\n"), "is no setting"),
    "a socket was left": (_stale_socket, "that was killed left it"),
    "the socket is a file": (_write("run/fmos.sock", b""), "no socket"),
    "a trusted project changed": (_changed_project, "not as it was trusted"),
    "rows of the future": (_future_row, "newest row is of"),
    "a step is in doubt": (_in_doubt, "1 steps are in doubt"),
    "a client's command is gone": (
        _client({"command": "/none/fmos-memory", "env": {"FMOS_HOME": "/h"}}),
        "there is no command '/none/fmos-memory'",
    ),
    "a client's command is relative": (
        _client({"command": "fmos-nothing"}, ".mcp.json"), "there is no command 'fmos-nothing'",
    ),
    "a client uses another home": (
        _client(
            {"command": sys.executable, "args": ["-m", "fmos_memory"], "env": {"FMOS_HOME": "/h"}},
            ".vscode/mcp.json",
        ),
        "another home, '/h'",
    ),
    "a client names no home": (
        _client({"command": sys.executable, "args": ["-m", "fmos_memory"]}), "FMOS_HOME",
    ),
    "a client's home is relative": (
        _client({"command": sys.executable, "args": ["-m", "fmos_memory"],
                 "env": {"FMOS_HOME": "h"}}),
        "is not absolute",
    ),
    "Claude Code's project entry": (_claude_project, "/none/fmos-trust-gate"),
    "a client's file is no JSON": (
        lambda home: (home.parent / "project" / ".mcp.json").write_text("{", "utf-8") and None,
        "no JSON",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", _BREAKS)
def test_every_fault_is_found(home: Path, way: str) -> None:
    """A home broken in this way has a finding that names it and says what to do."""
    break_it, said = _BREAKS[way]
    break_it(home)
    report = _look(home)
    found = _faults(report)
    assert any(said in each for each in found), found
    assert not report.unchecked, found
    assert report.exit_code == 1
    assert all(not each.endswith("-> ") for each in found)


@pytest.mark.parametrize("name", ["", "tenants", "keys", "kernel.db", "contracts"])
def test_what_may_not_be_read_is_found(home: Path, name: str) -> None:
    """A part that its owner may not read any more is a finding."""
    path = home / name
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        if os.access(path, os.R_OK):
            pytest.skip("root may read everything")
        assert _faults(_look(home))
    finally:
        path.chmod(mode)


def test_checkpoints_are_read_with_deep(home: Path) -> None:
    """A journal that was signed for and does not have these rows any more is an error."""
    from fmos.audit.checkpoints import checkpoint

    with Kernel.open(home) as kernel:
        checkpoint(kernel, "default")
    report = _look(home, only="checkpoints", deep=True)
    assert [each.problem for each in report.findings] == ["1 checkpoint read"]
    _sql(home, "UPDATE ext_audit_checkpoint SET note = replace(note, 'a', 'b')",
         "tenants/default.afs")  # fmt: skip
    assert any("checkpoint" in each for each in _faults(_look(home, only="checkpoints", deep=True)))


def test_many_random_faults_at_once(home: Path) -> None:
    """Scrambled bytes anywhere in any file never end in a traceback."""
    rolls = random.Random(11)
    files = [path for path in home.rglob("*") if path.is_file()]
    for path in rolls.sample(files, 4):
        data = bytearray(path.read_bytes())
        for _ in range(max(1, len(data) // 500)):
            data[rolls.randrange(len(data))] = rolls.randrange(256)
        path.write_bytes(data)
    report = _look(home)
    assert _faults(report)
    assert not report.unchecked, _faults(report)


def test_fix_does_what_is_safe_only(home: Path) -> None:
    """Modes and a socket that was left are put right, and it says so; nothing else is touched."""
    _break_mode(home)
    _stale_socket(home)
    (home / "policies" / "bad.yaml").write_text("kind: [", encoding="utf-8")
    report = _look(home, fix=True)
    assert sorted(each.done for each in report.findings if each.done) == [
        "made it 0700", "removed it",
    ]  # fmt: skip
    assert (home / "keys").stat().st_mode & 0o777 == 0o700
    assert not (home / "run" / "fmos.sock").exists()
    assert [each.split(":")[0] for each in _faults(report)] == ["policies"]
    assert _faults(_look(home)) == _faults(report)


def test_a_broken_part_is_not_passed_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that cannot be imported is a check that was not done."""
    monkeypatch.delattr("fmos.runtime.jobs.doctor")
    report = _look(home, only="jobs")
    assert report.unchecked == ("jobs",)
    assert report.exit_code == 2


def test_a_check_that_hangs_or_fails_is_a_finding(home: Path) -> None:
    """The doctor goes on after a check that does not end or fails, and exits with 2."""
    never = threading.Event()

    def hangs(patient: Patient) -> Iterator[Finding]:
        yield ok("before", "kept")
        never.wait(60)

    def fails(patient: Patient) -> Iterator[Finding]:
        raise RuntimeError("no such thing")
        yield ok("", "")

    class Short(Check):
        __slots__ = ()

        def limit_s(self, deep: bool) -> float:
            return 0.05

    heard: list[str] = []
    checks = [Short("hangs", hangs), Check("fails", fails), Check("last", lambda _: [ok("a", "b")])]
    report = examine(Patient(home), checks, on_check=lambda name, _: heard.append(name))
    never.set()
    assert report.unchecked == ("hangs", "fails")
    assert report.exit_code == 2
    assert "did not end within" in report.findings[1].problem
    assert "RuntimeError: no such thing" in report.findings[2].problem
    assert report.findings[-1].check == "last"


@contextmanager
def _daemon(home: Path) -> Iterator[list[str]]:
    """Run `fmos serve` and yield its addresses."""
    code = "import sys; from fmos_cli.main import main; sys.argv = ['fmos', *sys.argv[1:]]; main()"
    command = [sys.executable, "-c", code, "--home", str(home), "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        try:
            lines = [served.stdout.readline().strip() for _ in range(3)]
            yield lines[1:]
        finally:
            served.terminate()
            served.wait(20)


def _request(address: str, path: str) -> tuple[int, bytes]:
    import http.client

    host, _, port = address.removeprefix("http://").removesuffix("/mcp").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_a_daemon_is_asked(home: Path) -> None:
    """A running daemon is found, answers on both doors without a token, and says nothing on TCP."""
    with _daemon(home) as addresses:
        report = _look(home, only="daemon")
        assert [each.severity for each in report.findings] == ["ok"], report.findings
        assert "answers in" in report.findings[0].problem
        assert _request(addresses[0], "/healthz") == (204, b"")
        assert _request(addresses[0], "/mcp")[0] == 401
        (home / "kernel.db").rename(home / "away.db")
        assert _request(addresses[0], "/healthz") == (503, b"")
        report = _look(home, only="daemon")
        assert "is not well" in report.findings[0].problem
        (home / "away.db").rename(home / "kernel.db")
        elder = examine(
            Patient(home, version="0.0.1"), [each for each in CHECKS if each.name == "daemon"]
        )
        assert "this command is 0.0.1" in elder.findings[0].problem
    assert "no daemon runs" in _look(home, only="daemon").findings[0].problem


def test_a_daemon_that_does_not_answer(home: Path) -> None:
    """A daemon that holds the lock and is stopped is named with its process."""
    import fcntl

    with open(home / "run" / "fmos.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("12345")
        lock.flush()
        _stale_socket(home)
        found = _look(home, only="daemon").findings
    assert found[0].severity == "error"
    assert "12345" in found[0].remedy


def test_a_lock_that_lasts_is_named(home: Path) -> None:
    """Somebody who keeps kernel.db locked is a warning, and the check ends in time."""
    holder = apsw.Connection(str(home / "kernel.db"))
    holder.execute("BEGIN IMMEDIATE")
    found = _faults(_look(home, only="kernel.db"))
    holder.close()
    assert any("kept it locked" in each for each in found)


def test_a_long_path_has_no_socket(sound: Path, tmp_path: Path) -> None:
    """A home whose socket's path is too long is told, before a daemon is tried."""
    path = tmp_path / ("x" * 90) / "home"
    shutil.copytree(sound / "home", path)
    assert any("socket's may have 107" in each for each in _faults(_look(path, only="socket")))


def test_the_host_is_looked_at(home: Path) -> None:
    """Versions and optional parts are told, and what is missing says how to install it."""
    patient = Patient(home=home, version=version())
    report = examine(patient, [each for each in CHECKS if each.name in _HEAVY])
    things = {each.thing for each in report.findings}
    assert {"fmos[servers]", "fmos[otel]", "fmos[analytics]", "sandbox", "fuse", "tokens"} <= things
    assert not report.unchecked
    assert any("Python" in each.problem and "apsw" in each.problem for each in report.findings)


def test_older_packages_are_told() -> None:
    """A package below what is needed, or too new, is an error with a command."""
    from fmos.care.checks_host import _package

    assert not list(_package("pydantic", "2.0", "3"))
    assert "older than 99" in next(iter(_package("pydantic", "99", ""))).problem
    assert "before 1" in next(iter(_package("pydantic", "0.1", "1"))).problem
    assert "not installed" in next(iter(_package("no-such-package", "1", ""))).problem
