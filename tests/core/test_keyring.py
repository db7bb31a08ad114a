"""One key set per tenant: made once, kept apart, and missed when it is gone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fmos.audit.keys import AuditKeys, verify_signature
from fmos.errors import ArgumentError, HomeError
from fmos.runtime.kernel import Kernel

_ASK = """
import sys
from fmos.runtime.kernel import Kernel

with Kernel.open(sys.argv[1]) as kernel:
    sys.stdin.readline()
    keys = kernel.keys_of("acme")
    print(keys.public_key, keys.digest(b"x"))
"""


def test_each_tenant_has_its_own_keys(kernel: Kernel) -> None:
    """Another tenant's key neither signs nor digests alike."""
    one, other = kernel.keys_of("acme"), kernel.keys_of("globex")
    assert one.public_key != other.public_key
    assert one.digest(b"x") != other.digest(b"x")
    assert not other.verify(b"x", one.sign(b"x"))


def test_keys_lie_in_the_tenants_folder(kernel: Kernel) -> None:
    """The private files are the owner's only; the public key lies beside them for clients."""
    keys = kernel.keys_of("acme")
    folder = kernel.home.keys / "acme"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.iterdir()} == {"audit.pem", "digest.key", "audit.pub"}
    assert (folder / "audit.pem").stat().st_mode & 0o777 == 0o600
    assert (folder / "digest.key").stat().st_mode & 0o777 == 0o600
    published = (folder / "audit.pub").read_text().strip()
    assert verify_signature(published, b"x", keys.sign(b"x"))


@pytest.mark.parametrize("name", ["audit.pem", "digest.key"])
def test_a_missing_key_is_not_made_again(tmp_path: Path, name: str) -> None:
    """A key that went missing is named, and none takes its place in silence."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        kernel.keys_of("acme")
    (home / "keys/acme" / name).unlink()
    with Kernel.open(home) as kernel, pytest.raises(HomeError, match=rf"{name}.*missing.*backup"):
        kernel.keys_of("acme")
    assert not (home / "keys/acme" / name).exists()


def test_an_exchanged_key_is_refused(tmp_path: Path) -> None:
    """Another tenant's key folder in the place of the own one is not taken."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        kernel.keys_of("acme")
        kernel.keys_of("globex")
    shutil.rmtree(home / "keys/acme")
    shutil.copytree(home / "keys/globex", home / "keys/acme")
    with Kernel.open(home) as kernel, pytest.raises(HomeError, match="not the one that tenant"):
        kernel.keys_of("acme")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A key file open to the group is an error that says which command closes it."""
    home = tmp_path / "home"
    with Kernel.open(home) as kernel:
        kernel.keys_of("acme")
    (home / "keys/acme/audit.pem").chmod(0o640)
    with Kernel.open(home) as kernel, pytest.raises(HomeError, match="chmod 600"):
        kernel.keys_of("acme")


def test_an_older_homes_keys_become_the_default_tenants(tmp_path: Path) -> None:
    """A home that had one key set for all goes on with it for its default tenant."""
    folder = tmp_path / "home" / "keys"
    folder.mkdir(parents=True)
    older = AuditKeys(folder)
    older.require()
    with Kernel.open(tmp_path / "home") as kernel:
        assert kernel.keys_of("default").public_key == older.public_key
        assert kernel.keys_of("default").digest(b"x") == older.digest(b"x")
        assert kernel.keys_of("acme").public_key != older.public_key
    assert not (folder / "audit.pem").exists()


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    """Several processes that ask for a new tenant's keys at once get the same ones."""
    home = str(tmp_path / "home")
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", _ASK, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in asking:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = {process.communicate(timeout=30)[0].strip() for process in asking}
    assert len(answers) == 1
    assert len(answers.pop().split()) == 2


def test_a_tenant_id_cannot_leave_the_folder(kernel: Kernel) -> None:
    """A tenant id that would be a path, or that ends in a newline, has no keys."""
    for tenant in ("../globex", "a/b", "acme\n", ""):
        with pytest.raises(ArgumentError, match="tenant id"):
            kernel.keys_of(tenant)
