"""The doctor's checks of what people write: settings, contracts, policies, trust and tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import apsw

from agentfs.connection import Row
from fmos.care import files
from fmos.care.doctor import Check, Finding, Patient, counted, error, note, ok, warning
from fmos.care.examine import reading, tables_of
from fmos.contract import catalogue as catalogues
from fmos.contract.layers import PolicyLibrary
from fmos.contract.lint import lint_text
from fmos.contract.parse import read_text
from fmos.errors import FmosError
from fmos.runtime.trusted import TrustedProject, check
from fmos.settings import FILE_NAME, read_settings

_DAY_NS = 86_400 * 10**9
_YAML = (".yaml", ".yml")
_SHOWN = 5
_PROJECTS = "SELECT path, identity, digest, files, trusted_by, trusted_ns FROM trusted_project"
_TOKENS = "SELECT id, expires_ns, revoked_ns FROM token ORDER BY created_ns"


def settings(patient: Patient) -> Iterator[Finding]:
    """Can fmos.toml be understood."""
    path = patient.home / FILE_NAME
    try:
        read_settings(patient.home)
    except FmosError as failure:
        yield _failed(path, failure, "correct the line, or remove it: no command starts until then")
        return
    yield ok(str(path), "it is understood" if path.exists() else "not there: the defaults count")


def contracts(patient: Patient) -> Iterator[Finding]:
    """What lint says of contracts, binding documents and workflows."""
    yield from _linted(patient.home / "contracts", "file")


def policies(patient: Patient) -> Iterator[Finding]:
    """What lint says of policies, and whether all can be read: a broken one stops everybody."""
    folder = patient.home / "policies"
    rules = folder / "trust"
    found = [*_linted(folder, "file"), *(_linted(rules, "file") if rules.is_dir() else ())]
    yield from found
    if all(each.severity != "error" for each in found):
        try:
            PolicyLibrary(folder).all()
        except FmosError as failure:
            yield _failed(folder, failure, "correct or move the file: it stops every agent")


def catalogue(patient: Patient) -> Iterator[Finding]:
    """Can the catalogue be read."""
    path = patient.home / catalogues.FILE_NAME
    if not path.exists():
        yield ok(str(path), "not there; it is not needed")
        return
    try:
        found = catalogues.load_catalogue(path)
    except FmosError as failure:
        yield _failed(path, failure, "correct the line; nothing binds against it until then")
        return
    yield ok(str(path), f"{sum(1 for _ in found.all_offers())} offers")


def _linted(folder: Path, what: str) -> Iterator[Finding]:
    if not folder.is_dir():
        return
    number = 0
    faults = 0
    for path in sorted(folder.iterdir()):
        if path.suffix not in _YAML or path.name.startswith("."):
            continue
        number += 1
        for finding in _of_document(path):
            faults += 1
            yield finding
    if not faults:
        yield ok(str(folder), counted(number, what))


def _of_document(path: Path) -> Iterator[Finding]:
    try:
        text = read_text(path)
    except FmosError as failure:
        yield _failed(path, failure, "check its permissions; it must be UTF-8")
        return
    report = lint_text(text, str(path), datetime.now(UTC).date())
    for each in report.findings[:_SHOWN]:
        where = f"{path}:{each.line}" if each.line else str(path)
        remedy = each.hint or "correct the line (`fmos contract lint` shows all)"
        if each.severity == "error":
            yield error(where, f"{each.field}: {each.message}" if each.field else each.message,
                        remedy)  # fmt: skip
        else:
            yield note(where, each.message, remedy)


def trusted(patient: Patient) -> Iterator[Finding]:
    """Are trusted projects as they were when a person trusted them."""
    rows = _rows(patient, "trusted_project", _PROJECTS)
    faults = 0
    for row in rows:
        path = str(row[0])
        try:
            pinned = TrustedProject(*_project(row))
            check(pinned)
        except (FmosError, ValueError, TypeError) as failure:
            faults += 1
            remedy = getattr(failure, "hint", "") or f"run `fmos trust {path}` and look at it again"
            yield warning(path, _said(failure), f"{remedy}; until then it denies everything")
    if not faults:
        yield ok(str(patient.home), counted(len(rows), "trusted project"))


def _project(row: Row) -> tuple[str, str, str, dict[str, str], str, int]:
    path, identity, digest, documents, by, at = row
    return path, identity, digest, json.loads(documents), by, at


def tokens(patient: Patient) -> Iterator[Finding]:
    """Which tokens have ended or soon will."""
    now_ns = time.time_ns()
    rows = _rows(patient, "token", _TOKENS)
    valid = [row for row in rows if row[2] is None and int(row[1]) > now_ns]
    ended = sum(1 for row in rows if row[2] is None and int(row[1]) <= now_ns)
    soon = [str(row[0]) for row in valid if int(row[1]) < now_ns + _DAY_NS]
    if soon:
        yield note(
            ", ".join(soon[:_SHOWN]), "ends within a day", "issue another: `fmos token issue`"
        )
    if ended:
        yield note(counted(ended, "token"), "ended and refused", "`fmos token list` shows them")
    if not soon and not ended:
        yield ok(str(patient.home), counted(len(valid), "valid token"))


def _rows(patient: Patient, table: str, sql: str) -> list[Row]:
    path = patient.home / files.KERNEL_DB
    if not path.exists():
        return []
    try:
        with reading(path) as connection:
            return connection.execute(sql).fetchall() if table in tables_of(connection) else []
    except apsw.Error:
        return []  # the check of kernel.db says what is wrong


def _failed(path: Path, failure: FmosError, remedy: str) -> Finding:
    return error(str(path), _said(failure), failure.hint or remedy)


def _said(failure: Exception) -> str:
    hint = getattr(failure, "hint", "")
    return str(failure).removesuffix(f"; {hint}") if hint else str(failure)


CHECKS = (
    Check("settings", settings),
    Check("contracts", contracts),
    Check("policies", policies),
    Check("catalogue", catalogue),
    Check("projects", trusted),
    Check("tokens", tokens),
)
