"""`fmos approve`: a person looks at a call that the trust gate asked about, and decides."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.person import ask_person, person, require_terminal
from fmos_cli.session import Session

if TYPE_CHECKING:
    from fmos.runtime.kernel import Kernel
    from fmos_trust.approvals import Approvals
    from fmos_trust.model import Approval

_QUESTION = "Let it run? (skip and view are possible as well) [y/N] "
_MORE = "-- more: Enter goes on, q ends -- "


def approve(
    context: typer.Context,
    identifier: Annotated[
        str, typer.Argument(metavar="[ID]", help="As listed by `fmos pending`; else all of them.")
    ] = "",
    deny: Annotated[bool, typer.Option("--deny", help="Deny it; do not ask.")] = False,
    reason: Annotated[str, typer.Option(help="Why; it is kept in the audit journal.")] = "",
) -> None:
    """Show what waits, oldest first, and ask about each: yes, no, skip, or view all of it.

    It needs a person: a terminal that this command leads, which no agent's command has. There is no
    option that says yes. Exit codes: 5 it was answered or has expired; 8 there is no such approval;
    11 there is no terminal, or somebody else must answer.
    """
    session: Session = context.obj
    with session.open(make=False) as kernel:
        from fmos_trust.approvals import Approvals  # noqa: PLC0415 - keeps --help fast

        require_terminal("an approval")
        approvals = Approvals(kernel)
        for item in _chosen(approvals, identifier):
            if deny:
                approvals.decide(item.id, False, approver=person(), reason=reason)
                typer.echo(f"denied {item.id}")
            else:
                _decide(kernel, approvals, item, reason)


def _chosen(approvals: Approvals, identifier: str) -> list[Approval]:
    """Return what to ask about; one that does not wait any more says so when it is answered."""
    waiting = approvals.pending()
    if not identifier:
        if not waiting:
            typer.echo("nothing waits")
        return waiting
    found = next((each for each in waiting if each.id == identifier), None)
    return [found if found is not None else approvals.unanswered(identifier)]


def _decide(kernel: Kernel, approvals: Approvals, item: Approval, reason: str) -> None:
    """Show one call and do what the person says."""
    _show(kernel, approvals, item, whole=False)
    while True:
        answer = (ask_person(_QUESTION) or "").strip().lower()
        if answer in ("v", "view"):
            _show(kernel, approvals, item, whole=True)
        elif answer in ("s", "skip"):
            typer.echo(f"skipped {item.id}")
            return
        else:
            break
    yes = answer in ("y", "yes")
    effect = item.effect.digest if item.effect is not None else ""
    approvals.decide(item.id, yes, approver=person(), reason=reason, effect=effect)
    typer.echo(f"{'approved' if yes else 'denied'} {item.id}")


def _show(kernel: Kernel, approvals: Approvals, item: Approval, *, whole: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 - keeps --help fast
    from rich.text import Text  # noqa: PLC0415

    from fmos_trust.question import screen  # noqa: PLC0415

    console = Console(highlight=False, markup=False, emoji=False)
    now_ns = kernel.clock.now_ns()
    page = max(10, shutil.get_terminal_size().lines - 2)
    lines = screen(item, now_ns, approvals.asked_of(item, now_ns), whole=whole)
    for number, (line, style) in enumerate(lines, 1):
        console.print(Text(line, style), soft_wrap=True)
        if whole and number % page == 0 and (ask_person(_MORE) or "q").strip().lower() == "q":
            return
