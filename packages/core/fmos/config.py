"""The FMOS home: which folder holds the state, and where in it each thing lies.

Reads no environment: the commands do, and pass the path in.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fmos.errors import HomeError, NotFoundError
from fmos.types import checked_id

#: The folders that every home has.
FOLDERS = ("contracts", "policies", "keys", "tenants", "run")


@dataclass(frozen=True, slots=True)
class Home:
    """Paths of one FMOS home."""

    path: Path

    @classmethod
    def default_path(cls, environ: dict[str, str] | os._Environ[str]) -> Path:
        """Return `$FMOS_HOME`, else `~/.fmos`."""
        chosen = environ.get("FMOS_HOME")
        return Path(chosen).expanduser() if chosen else Path.home() / ".fmos"

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Home:
        """Make the folders that are missing and return the home.

        Raises:
            HomeError: if the folder cannot be made or written to.
        """
        root = Path(path).expanduser().absolute()
        hint = "set FMOS_HOME to a folder that you may write to"
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in FOLDERS:
                (root / name).mkdir(exist_ok=True, mode=0o700)
        except (FileExistsError, NotADirectoryError) as error:
            raise HomeError(
                f"the FMOS home {str(root)!r} is not a folder ({error.filename!r} is a file)",
                hint=hint,
            ) from error
        except OSError as error:
            raise HomeError(
                f"cannot use {str(root)!r} as the FMOS home: {error.strerror}", hint=hint
            ) from error
        if not os.access(root, os.W_OK | os.X_OK):
            raise HomeError(f"no permission to write to the FMOS home {str(root)!r}", hint=hint)
        return cls(root)

    @classmethod
    def existing(cls, path: str | os.PathLike[str]) -> Home:
        """Return the home at a path without making anything of it.

        Raises:
            HomeError: if there is none.
        """
        root = Path(path).expanduser().absolute()
        try:
            found = any((root / name).exists() for name in ("kernel.db", *FOLDERS))
        except OSError as error:
            raise HomeError(
                f"cannot look into {str(root)!r}: {error.strerror}", hint="check its permissions"
            ) from error
        if not found:
            raise HomeError(
                f"there is no FMOS home at {str(root)!r}",
                hint="name another with --home or FMOS_HOME; `fmos serve` makes one there, and"
                " `fmos --home DIR demo` one to look at",
            )
        return cls(root)

    def require_tenant(self, tenant: str) -> None:
        """Refuse a tenant that is not there; looking for one makes none.

        Raises:
            NotFoundError: naming those that are there.
        """
        known = self.tenants()
        if tenant not in known:
            there = f"there are {', '.join(known)}" if known else "nothing was recorded yet"
            raise NotFoundError(f"there is no tenant {tenant!r} in {str(self.path)!r}", hint=there)

    @property
    def contracts(self) -> Path:
        """The folder of Agent Contracts."""
        return self.path / "contracts"

    @property
    def policies(self) -> Path:
        """The folder of context and trust policies."""
        return self.path / "policies"

    @property
    def keys(self) -> Path:
        """The folder of private keys, for the owner only."""
        return self.path / "keys"

    @property
    def kernel_db(self) -> Path:
        """The file with accounts, agents and approvals of all tenants."""
        return self.path / "kernel.db"

    @property
    def socket(self) -> Path:
        """The daemon's unix socket."""
        return self.path / "run" / "fmos.sock"

    def tenants(self) -> list[str]:
        """Return the tenants that have a volume, sorted."""
        return sorted(path.stem for path in (self.path / "tenants").glob("*.afs"))

    def volume(self, tenant: str) -> Path:
        """Return the path of the tenant's volume.

        Raises:
            ArgumentError: if the tenant id cannot be a file name.
        """
        return self.path / "tenants" / f"{checked_id(tenant, 'a tenant id')}.afs"
