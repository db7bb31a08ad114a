"""One key set per tenant: makes it with the tenant, and never quietly makes it a second time.

A tenant's keys lie in `keys/<tenant>/`. kernel.db remembers the public key, so that keys that went
missing or were exchanged are an error and not the beginning of a new history.
"""

from __future__ import annotations

import os
import secrets
import threading
from importlib import resources
from pathlib import Path

from fmos.audit.keys import AuditKeys
from fmos.clock import Clock
from fmos.errors import HomeError
from fmos.storage.database import Database
from fmos.types import DEFAULT_TENANT, checked_id

PUBLIC = "audit.pub"

_KNOWN = "SELECT public_key FROM tenant_key WHERE tenant = ?"
_NOTE = "INSERT OR IGNORE INTO tenant_key(tenant, public_key, made_ns) VALUES (?, ?, ?)"


class KeyRing:
    """The keys of every tenant of one home. Thread-safe, and safe across processes."""

    def __init__(self, folder: Path, database: Database, clock: Clock) -> None:
        self._folder = folder
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, AuditKeys] = {}
        schema = resources.files("fmos.audit").joinpath("keyring.sql")
        database.install("keys", [schema.read_text(encoding="utf-8")])

    def of(self, tenant: str) -> AuditKeys:
        """Return a tenant's keys, making them at its first use.

        Raises:
            HomeError: if they are missing, unreadable, open to others, or not the tenant's own.
        """
        with self._lock:
            keys = self._keys.get(tenant)
            if keys is None:
                keys = self._keys[tenant] = self._open(tenant)
            return keys

    def _open(self, tenant: str) -> AuditKeys:
        folder = self._folder / checked_id(tenant, "a tenant id")
        known = self._public_key(tenant)
        if known is None:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._adopt_older(tenant, folder)
        keys = AuditKeys(folder, make=known is None)
        if known is None:
            keys.require()
            self._database.execute(_NOTE, (tenant, keys.public_key, self._clock.now_ns()))
            known = self._public_key(tenant)
        if keys.public_key != known:
            raise HomeError(
                f"the key in {str(folder)!r} is not the one that tenant {tenant!r} began with",
                hint="restore the folder from a backup; what the old key signed stays bound to it",
            )
        keys.require()
        _publish(folder / PUBLIC, keys.public_key)
        return keys

    def _public_key(self, tenant: str) -> str | None:
        rows = self._database.query(_KNOWN, (tenant,))
        return rows[0][0] if rows else None

    def _adopt_older(self, tenant: str, folder: Path) -> None:
        """Give the one set that an older home had for all tenants to the default one."""
        if tenant != DEFAULT_TENANT:
            return
        for name in AuditKeys.FILES:
            older = self._folder / name
            if older.exists() and not (folder / name).exists():
                os.replace(older, folder / name)


def _publish(path: Path, public_key: str) -> None:
    """Write the public key where a client finds it; whole or not at all."""
    text = public_key + "\n"
    try:
        if path.read_text(encoding="ascii") == text:
            return
    except (OSError, UnicodeDecodeError):
        pass
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    draft.write_text(text, encoding="ascii")
    os.replace(draft, path)
