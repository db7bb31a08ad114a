"""`agentfs serve` as a command: what it refuses, and how it ends."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("mcp")

from agentfs import AgentFS
from agentfs.cli.main import app


def run(path: Path, *options: str) -> Result:
    """Run the command on a volume in a directory; its client is gone at once."""
    with AgentFS.open(path / "a.afs") as fs:
        if not fs.exists("/notes.md"):
            fs.write("/notes.md", "x")
    return CliRunner().invoke(app, ["-f", str(path / "a.afs"), "serve", *options])


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--http", "0.0.0.0:0"], 2, "no passwords"),
        (["--http", "example.com:80"], 2, "127.0.0.1"),
        (["--http", "8078x"], 2, "HOST:PORT"),
        (["--http", "127.0.0.1:99999"], 2, "HOST:PORT"),
        (["--path", "/none"], 3, "/none"),
        (["--path", "/notes.md"], 4, "not a directory"),
        (["--path", "/.fmos"], 6, "permission denied"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    """An address that others reach, or a directory that is none, ends at once."""
    ran = run(tmp_path, *options)
    assert ran.exit_code == code
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The sentence says which, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = run(tmp_path, "--http", f"localhost:{port}")
    assert ran.exit_code == 2
    assert f"127.0.0.1:{port}" in ran.stderr
    assert "in use; choose another" in ran.stderr
