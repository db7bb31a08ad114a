"""Made home-of-2026-11-21.tar.zst with the code of commit f7da2c2; kept to say what is in it.

    git archive f7da2c2 | tar x -C /tmp/older && cd /tmp/older
    PYTHONPATH=agentfs:packages/core:packages/cli:mcp_servers/memory:... python THIS /tmp/home
    tar --zstd -C /tmp/home -cf home-of-2026-11-21.tar.zst .

Accounts had no types then, all tenants shared one key set, and volumes had format 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

CONTRACT = """apiVersion: agentos/v0.2
kind: AgentContract
name: writer
class: { latency: DT }
capabilities: ["read_file", "write_file"]
"""


def make(home: Path) -> None:
    """Make the home; only the code of that commit can."""
    from fmos.audit.record import record_intent, record_outcome
    from fmos.runtime.kernel import Kernel
    from fmos.serving.discovery import discover
    from fmos.types import (
        Decision,
        Operation,
        OperationKind,
        Outcome,
        OutcomeStatus,
        Principal,
        Verdict,
    )
    from fmos_memory.service import MemoryService

    with Kernel.open(home) as kernel:
        for toolset in discover().found.values():
            toolset(kernel)
        who = Principal(agent="writer", session="monday")
        (home / "contracts" / "writer.yaml").write_text(CONTRACT, encoding="utf-8")
        fs = kernel.agent_files(who)
        fs.mkdir("/notes")
        fs.write("/notes/one.txt", "first note\n")
        fs.write("/big.bin", bytes(range(256)) * 1200)
        fs.snapshot("before-edit")
        fs.write("/notes/one.txt", "second note\n")
        text = "The release is on Friday."
        memory = MemoryService(kernel)
        memory.write(who, text, namespace="default", kind="semantic", tags=(), source="")
        ledger, account = kernel.ledger, kernel.account(who)
        ledger.set_limit(account, "tokens", 1000)
        for number in range(3):
            operation = Operation(
                id=f"op{number}", kind=OperationKind.TOOL_CALL, name="write_file", principal=who
            )
            held = ledger.reserve(account, {"tokens": 100}, operation=operation.id, ttl_s=900)
            verdict = Verdict(operation=operation.id, decision=Decision.ALLOW)
            record_intent(kernel, operation, verdict)
            if number < 2:  # the third was cut short
                ledger.commit(held.id, {"tokens": 70})
                outcome = Outcome(operation=operation.id, status=OutcomeStatus.OK)
                record_outcome(kernel, who, outcome)
        child = kernel.fork_agent(who, "writer-2")
        kernel.agent_files(child).write("/notes/two.txt", "of the fork\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
