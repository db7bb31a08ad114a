"""Writes the benchmark tables of the pages, and the picture, from the result files.

A table stands between `<!-- bench:NAME -->` and `<!-- /bench -->`; `summary` is one line for each
benchmark. `--check` changes nothing and fails when a page says anything else than the results.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import chart

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"
PAGES = ("README.md", "docs/benchmarks.md", "docs/langgraph.md")
PICTURE = "docs/images/agentfs-growth.svg"
_BLOCK = re.compile(r"(<!-- bench:(\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
_PEER_SIDES = {"ours": "agentfs", "plain": "plain files (cp -a, diff -rq)"}


def claims() -> dict[str, str]:
    """Return every benchmark with its docstring; a module that states no claim is not one."""
    found: dict[str, str] = {}
    for path in sorted(HERE.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if text.startswith("Claim: "):
            found[path.stem] = text
    return found


def load(results: Path) -> dict[str, dict[str, Any]]:
    """Return the published results by name.

    Raises:
        ValueError: one is of a run with `--quick`.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(results.glob("*.json")):
        found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        if found[path.stem]["quick"]:
            raise ValueError(f"{path} is of a run with --quick, which must not be published")
    return found


def number(value: float) -> str:
    """Return a value with three digits, or all of its whole ones."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(claim: str, result: dict[str, Any] | None, name: str) -> str:
    """Return one benchmark's claim, rows, machine and durability."""
    lines = [" ".join(part.split()) for part in claim.split("\n\n")]
    if result is None:
        return "\n\n".join([*lines, f"Not measured yet: `make bench NAME={name}`."]) + "\n"
    rows = ["| " + result["claim"] + " | measured | target | |", "|---|---:|---|---|"]
    for each in result["rows"]:
        met = {None: "", True: "met", False: "**not met**"}[each["met"]]
        value = f"{number(each['value'])} {each['unit']}"
        rows.append(f"| {each['label']} | {value} | {each['target'] or ''} | {met} |")
    return "\n\n".join([*lines, "\n".join(rows), *_small_print(result)]) + "\n"


def _small_print(result: dict[str, Any]) -> list[str]:
    durability: dict[str, str] = {}
    for sides in result["measures"].values():
        durability.update({side: each["durability"] for side, each in sides.items()})
    machine, versions = result["machine"], result["versions"]
    host = f"{machine['cpu']}, {machine['cores']} cores, {machine['filesystem']}"
    of = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [
        "Durability: " + "; ".join(f"*{side}* {text}" for side, text in durability.items()) + ".",
        *result["notes"],
        f"{result['date'][:10]}, {result['took_s']:.0f} s, load {machine['load_before']}; {host},"
        f" {machine['kernel']}; {of}.",
    ]


def summary(results: dict[str, dict[str, Any]]) -> str:
    """Return one line for each result."""
    if not results:
        return "Not measured yet: `make bench NAME=all`.\n"
    lines = ["| work | agentfs | beside it |", "|---|---|---|"]
    for each in results.values():
        line = each["summary"]
        lines.append(f"| {line['work']} | {line['ours']} | {line['beside']} |")
    return "\n".join(lines) + "\n"


def page(text: str, results: dict[str, dict[str, Any]]) -> str:
    """Return a page's text with its tables as the results say."""
    known = claims()

    def block(found: re.Match[str]) -> str:
        name = found[2]
        if name == "summary":
            made = summary(results)
        else:
            made = table(known[name], results.get(name), name)
        return found[1] + made + found[3]

    return _BLOCK.sub(block, text)


def picture(result: dict[str, Any]) -> str:
    """Return the growth curves as SVG."""
    curves = {
        operation: {_PEER_SIDES[side]: points for side, points in sides.items()}
        for operation, sides in result["curves"].items()
    }
    return chart.render(curves, "What one operation costs as the tree grows", "files", "ms")


def in_order(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the results in the order of docs/benchmarks.md."""
    order = [name for _, name, _ in _BLOCK.findall((ROOT / PAGES[1]).read_text(encoding="utf-8"))]
    return {name: results[name] for name in order if name in results}


def outdated(results: dict[str, dict[str, Any]]) -> dict[Path, str]:
    """Return the files that differ from the results, each with what it should hold.

    Raises:
        ValueError: docs/benchmarks.md has no table for a benchmark.
    """
    files: dict[Path, str] = {}
    for name in PAGES:
        files[ROOT / name] = page((ROOT / name).read_text(encoding="utf-8"), results)
    shown = {name for _, name, _ in _BLOCK.findall(files[ROOT / PAGES[1]])}
    if missing := claims().keys() - shown:
        raise ValueError(f"{PAGES[1]} has no table for {', '.join(sorted(missing))}")
    if curves := results.get("growth_curves"):
        files[ROOT / PICTURE] = picture(curves)
    return {
        path: text
        for path, text in files.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def main() -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="bring the pages up to date")
    action.add_argument("--check", action="store_true", help="fail when one is not")
    action.add_argument("--list", action="store_true", help="name the benchmarks")
    options = parser.parse_args()
    if options.list:
        print(*claims(), sep="\n")
        return 0
    found = outdated(in_order(load(RESULTS)))
    for path, text in found.items():
        print(f"{path.relative_to(ROOT)} {'written' if options.write else 'is not up to date'}")
        if options.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if found and options.check:
        print("run: .venv/bin/python benchmarks/tables.py --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
