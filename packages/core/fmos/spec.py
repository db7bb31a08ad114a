"""Publishes the JSON schemas of the records that cross a process border, in docs/spec/.

`python -m fmos.spec --write DIR` writes them, `--check DIR` says which are not current.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pydantic import BaseModel

from fmos.check.model import Report
from fmos.contract.admission import Admission
from fmos.contract.binding_document import BindingDocument
from fmos.contract.catalogue import Catalogue
from fmos.contract.manifest import Manifest
from fmos.contract.model import AgentContract
from fmos.contract.policy import Policy
from fmos.contract.trust_policy import TrustPolicy
from fmos.contract.workflow import Workflow
from fmos.equivalence.model import Report as EquivalenceReport
from fmos.ledger.model import Balance, Reservation
from fmos.runtime.lifecycle import Agent
from fmos.runtime.transferfile import TransferManifest
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.table import TrapTable
from fmos.types import Observation, Operation, Outcome, Principal, Step, Verdict
from fmos.verify.model import Claim, Result

_RECORDS: dict[str, type[BaseModel]] = {
    "admission": Admission,
    "agent": Agent,
    "agent-contract": AgentContract,
    "agent-transfer": TransferManifest,
    "balance": Balance,
    "binding-document": BindingDocument,
    "catalogue": Catalogue,
    "check-report": Report,
    "claim": Claim,
    "equivalence-report": EquivalenceReport,
    "manifest": Manifest,
    "observation": Observation,
    "operation": Operation,
    "outcome": Outcome,
    "policy": Policy,
    "principal": Principal,
    "reservation": Reservation,
    "step": Step,
    "tool-descriptor": ToolDescriptor,
    "trap-table": TrapTable,
    "trust-policy": TrustPolicy,
    "verdict": Verdict,
    "verification-result": Result,
    "workflow": Workflow,
}


def schemas() -> dict[str, str]:
    """Return file name to file text of every published schema."""
    return {f"{name}.schema.json": _text(record) for name, record in _RECORDS.items()}


def write(folder: Path) -> int:
    """Write the schemas that are missing or not current, and return how many that were."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = stale(folder)
    texts = schemas()
    for name in changed:
        if name in texts:
            (folder / name).write_text(texts[name], encoding="utf-8")
        else:
            (folder / name).unlink()
    return len(changed)


def stale(folder: Path) -> list[str]:
    """Return the schema files that are missing, not current, or of no record any more."""
    texts = schemas()
    present = {path.name for path in folder.glob("*.schema.json")}
    differ = [
        name
        for name, text in texts.items()
        if name not in present or (folder / name).read_text(encoding="utf-8") != text
    ]
    return sorted([*differ, *(present - texts.keys())])


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m fmos.spec", description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", metavar="DIR", type=Path, help="bring the schemas up to date")
    mode.add_argument("--check", metavar="DIR", type=Path, help="fail if one is not current")
    chosen = parser.parse_args(arguments)
    if chosen.write is not None:
        print(f"{write(chosen.write)} of {len(_RECORDS)} schemas changed in {str(chosen.write)!r}")
        return 0
    names = stale(chosen.check)
    if names:
        print(
            f"{len(names)} schemas are not current: {', '.join(names)};"
            f" run `python -m fmos.spec --write {chosen.check}`",
            file=sys.stderr,
        )
    return 1 if names else 0


def _text(record: type[BaseModel]) -> str:
    return json.dumps(record.model_json_schema(by_alias=True), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(main())
