"""One key set per tenant: makes it with the tenant, and never quietly makes it a second time.

A tenant's keys lie in `keys/<tenant>/`. kernel.db remembers the public keys, so that keys that went
missing or were exchanged are an error and not the beginning of a new history.

A key is changed in an order in which it can be cut short at any point: the new key is written, then
the change that both keys signed, then kernel.db takes it (from here on the new key counts), then
the new key takes the old one's place, which destroys the old one. Whoever opens the keys next
finishes what was begun.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import resources
from pathlib import Path

from fmos.audit.history import KeyChange, KeyHistory
from fmos.audit.keys import AuditKeys, make_private, public_text, read_private
from fmos.clock import Clock
from fmos.errors import FormatError, HomeError
from fmos.storage import wholefile
from fmos.storage.database import Database
from fmos.types import DEFAULT_TENANT, checked_id

PUBLIC = "audit.pub"
_SIGNING = "audit.pem"
_NEXT = "audit.next.pem"
_HISTORY = "history.json"

_FIRST = "SELECT public_key FROM tenant_key WHERE tenant = ?"
_KNOWN = (
    "SELECT public_key FROM (SELECT number, public_key FROM tenant_key_change WHERE tenant = ?1"
    " UNION ALL SELECT 0, public_key FROM tenant_key WHERE tenant = ?1)"
    " ORDER BY number DESC LIMIT 1"
)
_CHANGES = "SELECT change FROM tenant_key_change WHERE tenant = ? ORDER BY number"
_NOTE = "INSERT OR IGNORE INTO tenant_key(tenant, public_key, made_ns) VALUES (?, ?, ?)"
_CHANGE = "INSERT INTO tenant_key_change(tenant, number, public_key, change) VALUES (?, ?, ?, ?)"

Step = Callable[[str], None]
"""Is told the name of each step of a change after it was done; tests stop there."""


class KeyRing:
    """The keys of every tenant of one home. Thread-safe, and safe across processes."""

    def __init__(
        self, folder: Path, database: Database, clock: Clock, *, looking: bool = False
    ) -> None:
        """`looking` leaves the folder as it is; `database` is a copy then."""
        self._folder = folder
        self._looking = looking
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, AuditKeys] = {}
        folder_of_schemas = resources.files("fmos.audit")
        names = ("keyring.sql", "keyring_0002_changes.sql")
        steps = [folder_of_schemas.joinpath(each).read_text(encoding="utf-8") for each in names]
        database.install("keys", steps)

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

    def history(self, tenant: str) -> KeyHistory:
        """Return the public keys of a tenant from its first one on, each signed for by the last.

        The private keys need not be there.

        Raises:
            HomeError: as `of` does, where the tenant has no keys yet.
            FormatError: if a change is not signed as it must be.
        """
        if self._public_key(tenant) is None:
            self.of(tenant)
        return self._known_history(tenant)

    def _known_history(self, tenant: str) -> KeyHistory:
        """Return the history of a tenant that has keys; takes no lock of this object."""
        first = self._database.query(_FIRST, (tenant,))[0][0]
        rows = self._database.query(_CHANGES, (tenant,))
        changes = tuple(KeyChange.from_json(json.loads(text)) for (text,) in rows)
        history = KeyHistory(tenant, first, changes)
        history.check()
        return history

    def change(self, tenant: str, final: int, step: Step = lambda name: None) -> KeyChange:
        """Give a tenant a new key, signed for by the old one, and destroy the old one.

        Args:
            tenant: Whose key it is.
            final: The last journal row that the old key signed for.
            step: Is told each step.

        Raises:
            HomeError: as `of` does.
        """
        # `of` takes the lock and then kernel.db, so it may not be called while that is held.
        keys = self.of(tenant)
        folder = self._folder / tenant
        with self._database.transaction():
            _finish(folder, self._public_key(tenant))
            change = self._prepare(tenant, keys, final, step)
            text = json.dumps(change.to_json())
            self._database.execute(_CHANGE, (tenant, change.number, change.public, text))
        step("taken")
        _finish(folder, change.public)
        step("replaced")
        _publish(folder / PUBLIC, change.public)
        return change

    def _prepare(self, tenant: str, keys: AuditKeys, final: int, step: Step) -> KeyChange:
        """Make the new key, and write down the change that both keys signed."""
        folder, history = self._folder / tenant, self._known_history(tenant)
        private = make_private(folder / _NEXT)
        step("made")
        unsigned = KeyChange(
            tenant, len(history.changes) + 1, history.keys[-1], public_text(private),
            self._clock.now_ns(), final,
        )  # fmt: skip
        said = unsigned.statement()
        by_new = base64.b64encode(private.sign(said)).decode("ascii")
        change = replace(unsigned, by_old=keys.sign(said), by_new=by_new)
        with_it = replace(history, changes=(*history.changes, change))
        text = json.dumps(with_it.to_json(), indent=1) + "\n"
        wholefile.write_text(folder / _HISTORY, text, private=True)
        step("written")
        return change

    def _open(self, tenant: str) -> AuditKeys:
        folder = self._folder / checked_id(tenant, "a tenant id")
        known = self._public_key(tenant)
        keys = (self._seen if self._looking else self._prepared)(tenant, folder, known)
        if known is None:
            keys.require()
            self._database.execute(_NOTE, (tenant, keys.public_key, self._clock.now_ns()))
            known = self._public_key(tenant)
        if keys.public_key != known and not self._take_over(tenant, folder, keys.public_key):
            raise HomeError(
                f"the key in {str(folder)!r} is not the one that tenant {tenant!r} began with",
                hint="restore the folder from a backup; what the old key signed stays bound to it",
            )
        keys.require()
        if not self._looking:
            _publish(folder / PUBLIC, keys.public_key)
        return keys

    def _prepared(self, tenant: str, folder: Path, known: str | None) -> AuditKeys:
        """Return the keys in a folder after what is due there; a new tenant's are made."""
        if known is None:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._adopt_older(tenant, folder)
        else:
            _finish(folder, known)
        return AuditKeys(folder, make=known is None, current=lambda: self._public_key(tenant))

    def _seen(self, tenant: str, folder: Path, known: str | None) -> AuditKeys:
        """Return the keys in a folder as they are; a tenant that has none gets some for now."""
        following = folder / _NEXT
        if known and following.exists() and public_text(read_private(following)) == known:
            raise HomeError(
                f"a change of the keys of tenant {tenant!r} was cut short",
                hint="what writes next finishes it, such as `fmos audit checkpoint`",
            )
        if known is None and not (folder / _SIGNING).exists():
            if tenant != DEFAULT_TENANT or not (self._folder / _SIGNING).exists():
                return _Unkept(folder)
            folder = self._folder  # as an older home has them: see `_adopt_older`
        return AuditKeys(folder, make=False, current=lambda: self._public_key(tenant))

    def _public_key(self, tenant: str) -> str | None:
        rows = self._database.query(_KNOWN, (tenant,))
        return rows[0][0] if rows else None

    def _take_over(self, tenant: str, folder: Path, public_key: str) -> bool:
        """Take changes that kernel.db has lost from the folder; both keys signed each of them.

        A power cut can take back what kernel.db had committed; the folder was synced before.
        """
        with suppress(OSError, ValueError, FormatError):
            written = KeyHistory.from_json(json.loads((folder / _HISTORY).read_text("utf-8")))
            written.check()
            with self._database.transaction():
                first = self._database.query(_FIRST, (tenant,))[0][0]
                known = self._database.query(_CHANGES, (tenant,))
                if (written.first, written.tenant) != (first, tenant):
                    return False
                if written.keys[-1] != public_key:
                    return False
                for change in written.changes[len(known) :]:
                    text = json.dumps(change.to_json())
                    self._database.execute(_CHANGE, (tenant, change.number, change.public, text))
            return self._public_key(tenant) == public_key
        return False

    def _adopt_older(self, tenant: str, folder: Path) -> None:
        """Give the one set that an older home had for all tenants to the default one."""
        if tenant != DEFAULT_TENANT:
            return
        for name in AuditKeys.FILES:
            older = self._folder / name
            if older.exists() and not (folder / name).exists():
                os.replace(older, folder / name)


class _Unkept(AuditKeys):
    """Keys that are in no file: nothing that was ever kept is signed or digested with them."""

    def _read(self, path: Path, make: Callable[[], bytes]) -> bytes:
        return make()


def _publish(path: Path, public_key: str) -> None:
    """Write the public key where a client finds it; whole or not at all."""
    text = public_key + "\n"
    try:
        if path.read_text(encoding="ascii") == text:
            return
    except (OSError, UnicodeDecodeError):
        pass
    wholefile.write_text(path, text)


def _finish(folder: Path, counts: str | None) -> None:
    """Put the next key in the old one's place, if it is the one that counts, and wipe the old."""
    following = folder / _NEXT
    if not following.exists() or public_text(read_private(following)) != counts:
        return
    # Where another process has finished it meanwhile, there is nothing to replace.
    with open(folder / _SIGNING, "r+b") as old, suppress(FileNotFoundError):
        os.replace(following, folder / _SIGNING)
        wholefile.sync_folder(folder)
        old.write(bytes(os.fstat(old.fileno()).st_size))
        wholefile.sync(old)
