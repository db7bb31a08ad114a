"""A workflow whose process is killed between an effect and its outcome: it goes on, and sends once.

Run it: `python examples/workflow_killed.py`. It needs nothing but FMOS, and keeps nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fmos.contract.parse import load_as
from fmos.contract.workflow import Workflow
from fmos.runtime.kernel import Kernel
from fmos.steps.model import StepContext
from fmos.workflow.actors import Actor, StepCall
from fmos.workflow.runner import Runner

NEWSLETTER = """
workflow: newsletter
steps:
  - { id: write, agent: writer, contract: { capabilities: [ fs.write ] }, out: { text: markdown } }
  - { id: send, agent: sender, contract: { capabilities: [ email.send ] }, in: { text }, out: {} }
  - { id: approve_archive, type: HITL_approval, in: { text } }
"""


def write(call: StepCall) -> Mapping[str, object]:
    """Write the newsletter into the agent's branch, and hand it on."""
    call.write("/newsletter.md", "# News")
    return {"text": "# News"}


def newsletter(home: Path, outbox: Path, *, dies: bool) -> str:
    """Run the workflow, or go on with it, and return its state."""

    def send(call: StepCall) -> None:
        call.use("email.send")
        with outbox.open("a") as file:  # the mail server, which keeps idempotency keys
            file.write(call.idempotency_key + "\n")
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    def was_sent(step: StepContext) -> bool:
        return outbox.exists() and step.idempotency_key in outbox.read_text().split()

    crew = {"writer": Actor(write, "idempotent"), "sender": Actor(send, verify=was_sent)}
    with Kernel.open(home) as kernel:
        runner = Runner(kernel, crew)
        state = runner.start(load_as(Workflow, NEWSLETTER), run="week-42").state
        if state == "waiting":
            runner.answer("week-42", "approve_archive", True, by="user:ada")
            state = runner.resume("week-42").state
        return state


def main() -> None:
    """Kill the first process after it has sent, and let a second one go on."""
    with tempfile.TemporaryDirectory() as folder:
        home, outbox = Path(folder) / "home", Path(folder) / "outbox"
        sys.stdout.flush()
        child = os.fork()
        if not child:
            newsletter(home, outbox, dies=True)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        print("killed after it had sent, before the outcome was stored")
        state = newsletter(home, outbox, dies=False)
        assert state == "done", state
        assert len(outbox.read_text().split()) == 1
        print("resumed: done, sent once")


if __name__ == "__main__":
    main()
