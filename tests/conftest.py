"""Fixtures that every area uses, and the check that the packages are really installed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import agentfs

if agentfs.__file__ is None:  # pragma: no cover - only without an installation
    raise pytest.UsageError(
        "agentfs is not installed (an empty namespace package was found); run `make test`"
    )

from fmos.runtime.kernel import Kernel


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel over a fresh home."""
    with Kernel.open(tmp_path / "home") as opened:
        yield opened


@pytest.fixture(scope="session")
def cached_venv() -> Callable[..., Path]:
    """What makes an environment with other packages than ours: see `_cached_venv`."""
    return _cached_venv


def _cached_venv(name: str, *install: str, sees: str | None = None) -> Path:
    """Return the Python of an environment that is made once per machine and kept.

    `install` are arguments of `pip install`; other ones make another environment. `sees` is a
    folder of packages that it has too, behind its own. Skips where it cannot be made.
    """
    key = hashlib.sha256(repr((sys.version_info[:2], install, sees)).encode()).hexdigest()[:8]
    cache = os.environ.get("XDG_CACHE_HOME")
    root = Path(cache) / "fmos" if cache else Path(tempfile.gettempdir())
    folder = root / f"fmos-{name}-venv-{key}"
    root.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers make it one at a time
        if not (folder / "complete").exists():
            _make_venv(folder, install, sees)
    return folder / "bin" / "python"


def _make_venv(folder: Path, install: tuple[str, ...], sees: str | None) -> None:
    try:
        _run_module(sys.executable, "venv", "--clear", str(folder))
        if sees is not None:
            own = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
            (own / "sees.pth").write_text(f"import site; site.addsitedir({sees!r})\n")
        _run_module(str(folder / "bin" / "python"), "pip", "install", "--quiet", *install)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines() or ["no reason given"]
        pytest.skip(f"cannot make an environment with {' '.join(install)}: {said[-1]}")
    (folder / "complete").touch()


def _run_module(python: str, *arguments: str) -> None:
    subprocess.run([python, "-m", *arguments], capture_output=True, text=True, check=True)
