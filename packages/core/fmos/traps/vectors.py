"""The conformance vectors of the trap ABI: what any implementation must answer.

`python -m fmos.traps.vectors --write DIR` writes them, `--check DIR` says which are not current.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from fmos.contract.globs import normalise
from fmos.traps.paths import Scope, plain_path
from fmos.traps.table import OWNERS, Signer, TrapRule, TrapTable, signed
from fmos.traps.wire import Expected, TableError, canonical, check, signed_bytes
from fmos.types import Operation, OperationClass

_SECOND = 1_000_000_000
_ISSUED = 1_750_000_000 * _SECOND
_EXPIRES = _ISSUED + 60 * _SECOND

_PATHS = (
    *("/", "/a", "/a/b.txt", "a/b", "./a", "/a/./b", "/a//b", "//a", "/a/", "/a b/c", "/.hidden"),
    *("/a/../b", "..", "../a", "/a/..b", "/a..", "~", "~root/x", "/a/~", "file:///a", "C:/a"),
    *("http://a/b", "/a:b", "/a\\b", "/a%2fb", "/$HOME", "/a*", "/a?", "/a[1]", "/{a,b}", ""),
    *(" /a", "/a ", "/a\tb", "/a\u0000", "/a\u007f", "/caf\u00e9", "/cafe\u0301", "/\uff0fa"),
    *("/a./b", "/a.", "/a /b", "/...", "./", "/a/.", "/.a."),
    *("/\u2025/a", "/\u4e2d\u6587", "/a\u00a0", "/\U0001f600"),
)
_GLOBS: tuple[tuple[list[list[str]], tuple[str, ...]], ...] = (
    ([["/**"]], ("/", "/a", "/a/b/c")),
    ([["/src/**"]], ("/src", "/src/a", "/src/a/b", "/srcs", "/sr", "/a/src/b")),
    ([["src/**"]], ("/src/a", "/a/src")),
    ([["/src/*"]], ("/src", "/src/a", "/src/.a", "/src/a/b")),
    ([["/src/?.py"]], ("/src/a.py", "/src/ab.py", "/src//.py", "/src/\U0001f600.py")),
    ([["/**/a.py"]], ("/a.py", "/x/a.py", "/x/y/a.py", "/xa.py")),
    ([["/a/**/b"]], ("/a/b", "/a/x/b", "/a/x/y/b", "/ab", "/a/xb")),
    ([["/a**"]], ("/a", "/ab", "/ab/c", "/b")),
    ([["/a.b"]], ("/a.b", "/axb")),
    ([["/A"]], ("/a", "/A")),
    ([["/x/../y/**"]], ("/y/a", "/x/a")),
    ([["/a", "/b/**"]], ("/a", "/b/c", "/c")),
    ([["/work/**"], ["/work/out/**", "/x"]], ("/work/out/a", "/work/a", "/x")),
    ([["/a"], []], ("/a",)),
    ([], ("/a",)),
)
_RULES = (
    TrapRule(
        tool="read",
        operation_class=OperationClass.INNOCUOUS,
        path_arguments=("path",),
        read_scopes=(("/**",),),
    ),
    TrapRule(
        tool="read_src",
        operation_class=OperationClass.INNOCUOUS,
        path_arguments=("from", "to"),
        read_scopes=(("/work/**",), ("/work/src/**", "/work/doc/*.md")),
    ),
    TrapRule(tool="now", operation_class=OperationClass.INNOCUOUS),
    TrapRule(tool="write", operation_class=OperationClass.PRIVILEGED),
)
_TABLE = TrapTable(
    agent="ada",
    version="",
    serial=7,
    issued_ns=_ISSUED,
    expires_ns=_EXPIRES,
    contract="c" * 64,
    manifest="d" * 64,
    owners=OWNERS,
    protected=("/.fmos", "/dev", "/home/u/.fmos", "/proc"),
    guarded=("/.fmos", "/home/u/.fmos"),
    rules=_RULES,
)
_CALLS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(("tool.call", "read", {"path": path}) for path in ("/a", "a/b", "/a/b c", "/caf\u00e9")),
    *(("tool.call", "read", {"path": path}) for path in (".fmos", "/.fmos", "/.fmos/a", "/.fmosx")),
    *(("tool.call", "read", {"path": path}) for path in ("/dev/sda", "/devices", "/proc/1/root/a")),
    *(("tool.call", "read", {"path": path}) for path in ("/home/u/.fmos/keys", "/HOME/U/.FMOS/k")),
    *(("tool.call", "read", {"path": path}) for path in ("/", "/home", "/home/u", "/home/u/x")),
    *(("tool.call", "read", {"path": path}) for path in ("x/.fmos/keys", "/x/.fmos/keys", "~/a")),
    *(("tool.call", "read", {"path": path}) for path in ("/a/../b", "file:/a", "/a*", "", "/a\\b")),
    *(("tool.call", "read", {"path": path}) for path in (None, 7, True, [], {}, {"a": "/a"})),
    *(("tool.call", "read", {"path": paths}) for paths in (["/a", "/b"], ["/a", 7], [["/a"]])),
    ("tool.call", "read", {}),
    ("tool.call", "read", {"path": "/a", "limit": 10, "deep": None, "exact": True}),
    ("tool.call", "read", {"path": "/a", "note": "see /home/u/.fmos/keys"}),
    ("tool.call", "read", {"path": "/a", "note": "see /Home/U/.FMOS"}),
    ("tool.call", "read", {"path": "/a", "note": {"deep": [{"er": "~/.fmos"}]}}),
    ("tool.call", "read", {"path": "/a", "note": {"deep": [{"/.fmos": 1}]}}),
    ("tool.call", "read", {"path": "/a", "note": {"deep": [{"er": "fine"}]}}),
    ("tool.call", "read", {"path": "/a", "note": [[[[[[[["fine"]]]]]]]]}),
    ("tool.call", "read", {"path": "/a", "note": [[[[[[[[["too deep"]]]]]]]]]}),
    *(("tool.call", "now", {"zone": text}) for text in ("/etc", "../a", "a/..", "~/a", "and/or")),
    *(("tool.call", "read", {"path": "/a", "as": text}) for text in ("/b", "/b%2f", "file:/b")),
    *(("tool.call", "read", {"path": "/a", "as": [text]}) for text in ("\uff0fb", "~5", "C:\\b")),
    ("tool.call", "read_src", {"from": "/work/src/a", "to": "/work/src/b", "as": "/etc/b"}),
    ("tool.call", "read_src", {"from": "/work/src/a", "to": "/work/src/b", "as": {"/etc/b": 1}}),
    ("tool.call", "read_src", {"from": "/work/src/a", "to": "/work/doc/a.md"}),
    ("tool.call", "read_src", {"from": "/work/src/a", "to": "/work/doc/x/a.md"}),
    ("tool.call", "read_src", {"from": "/work/src/a"}),
    ("fs.read", "read", {"path": "/a"}),
    ("fs.write", "read", {"path": "/a"}),
    ("model.generate", "now", {}),
    ("future.kind", "now", {}),
    ("tool.call", "now", {}),
    ("tool.call", "now", {"zone": "UTC"}),
    ("tool.call", "write", {"path": "/a"}),
    ("tool.call", "Read", {"path": "/a"}),
    ("tool.call", "unknown", {}),
)
_CANONICAL: tuple[Any, ...] = (
    {"b": [1, -7, 0], "a": {"y": None, "x": True}},
    {"\u20ac": "1", "\r": "2", "\ufb33": "3", "1": "4", "\U0001f600": "5", "\u0080": "6"},
    {"text": 'a"\\\b\f\n\r\t\u0001\u007f\u2028/\u00e9\U0001f600'},
    {"time": _ISSUED, "most": 2**53 - 1, "empty": [{}, [], ""]},
)


class _TestKey:
    """The key of the vectors: its seed is the bytes 0 to 31, so it protects nothing."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PrivateKey,
        )

        self._key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))

    @property
    def public_key(self) -> str:
        return base64.b64encode(self._key.public_key().public_bytes_raw()).decode("ascii")

    def sign(self, data: bytes) -> str:
        return base64.b64encode(self._key.sign(data)).decode("ascii")


def texts() -> dict[str, str]:
    """Return file name to file text of every vector file."""
    files = {
        "classify": _classify(),
        "globs": _globs(),
        "normalise": _normalise(),
        "signature": _signatures(_TestKey()),
    }
    return {f"{name}.json": json.dumps(made, indent=1) + "\n" for name, made in files.items()}


def stale(folder: Path) -> list[str]:
    """Return the files of a folder that are missing or not current."""
    return [
        name
        for name, text in texts().items()
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m fmos.traps.vectors", description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", metavar="DIR", type=Path, help="bring the vectors up to date")
    mode.add_argument("--check", metavar="DIR", type=Path, help="fail if one is not current")
    chosen = parser.parse_args(arguments)
    names = stale(chosen.write or chosen.check)
    if chosen.write is None:
        for name in names:
            print(f"{name} is not current; run with --write {chosen.check}", file=sys.stderr)
        return 1 if names else 0
    chosen.write.mkdir(parents=True, exist_ok=True)
    for name in names:
        (chosen.write / name).write_text(texts()[name], encoding="utf-8")
    print(f"{len(names)} of {len(texts())} files changed in {str(chosen.write)!r}")
    return 0


def _normalise() -> dict[str, Any]:
    """`normalised` is the plain function; `plain` is null where the path is a doubt."""
    return {
        "cases": [
            {"path": path, "normalised": normalise(path), "plain": plain_path(path)}
            for path in _PATHS
        ]
    }


def _globs() -> dict[str, Any]:
    return {
        "cases": [
            {"scopes": scopes, "path": path, "covered": Scope(scopes).covers(path)}
            for scopes, paths in _GLOBS
            for path in paths
        ]
    }


def _classify() -> dict[str, Any]:
    table = signed(_TABLE, _TestKey())
    now = _ISSUED + _SECOND
    calls = [(*call, now) for call in _CALLS]
    times = (_ISSUED - 1, _ISSUED, _EXPIRES - 1, _EXPIRES)
    calls += [("tool.call", "now", {}, at_ns) for at_ns in times]
    return {
        "table": table.model_dump(mode="json"),
        "cases": [
            {
                "kind": kind,
                "name": name,
                "arguments": arguments,
                "now_ns": str(at_ns),
                "innocuous": _innocuous(table, kind, name, arguments, at_ns),
            }
            for kind, name, arguments, at_ns in calls
        ],
    }


def _innocuous(
    table: TrapTable, kind: str, name: str, arguments: dict[str, Any], now_ns: int
) -> bool:
    # Not validated: a kind that this version does not know is among the cases.
    asked = Operation.model_construct(kind=kind, name=name, arguments=arguments)  # type: ignore[arg-type]
    return table.classify(asked, now_ns) is OperationClass.INNOCUOUS


def _signatures(key: Signer) -> dict[str, Any]:
    table = signed(_TABLE, key).model_dump(mode="json")
    newer = _signed({**table, "later": {"a": [1]}}, key)
    rules = [{**table["rules"][3], "operation_class": "innocuous"}]
    cases = [
        ("as it was signed", table),
        ("with a field that this version does not know, signed", newer),
        ("a field added afterwards", {**table, "later": 1}),
        ("a field that was signed is gone", {k: v for k, v in newer.items() if k != "later"}),
        ("a rule changed", {**table, "rules": rules}),
        ("a longer life", {**table, "expires_ns": _EXPIRES + _SECOND}),
        ("no signature", {**table, "signature": ""}),
        ("another abi, signed", _signed({**table, "abi": 2}, key)),
        ("another agent, signed", _signed({**table, "agent": "eve"}, key)),
        ("another tenant, signed", _signed({**table, "tenant": "other"}, key)),
        ("an older serial, signed", _signed({**table, "serial": 6}, key)),
        ("a fraction", {**table, "serial": 7.5}),
    ]
    return {
        "public_key": key.public_key,
        "expected": {
            "tenant": "default",
            "agent": "ada",
            "least_serial": 7,
            "now_ns": str(_ISSUED + _SECOND),
        },
        "canonical": [{"value": v, "utf8": canonical(v).decode()} for v in _CANONICAL],
        "documents": [_signature_case(what, document, key) for what, document in cases],
    }


def _signed(document: dict[str, Any], key: Signer) -> dict[str, Any]:
    return {**document, "signature": key.sign(signed_bytes(document))}


def _signature_case(what: str, document: dict[str, Any], key: Signer) -> dict[str, Any]:
    expected = Expected(key.public_key, "default", "ada", _ISSUED + _SECOND, least_serial=7)
    try:
        check(document, expected)
        usable = True
    except TableError:
        usable = False
    return {"what": what, "usable": usable, "signed_sha256": _sha(document), "document": document}


def _sha(document: dict[str, Any]) -> str | None:
    """The SHA-256 of the signing input; null where the document has none."""
    try:
        return hashlib.sha256(signed_bytes(document)).hexdigest()
    except TableError:
        return None


if __name__ == "__main__":
    sys.exit(main())
