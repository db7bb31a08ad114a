"""`fmos workflow`: run workflows, see how they stand, answer what they ask, cancel them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.options import refuse_unused
from fmos_cli.person import YesOption, agree, person
from fmos_cli.session import Session
from fmos_cli.telling import safe
from fmos_cli.workflows import (
    document_of,
    finish,
    inputs_of,
    lines_of,
    options_of,
    runner_of,
)

if TYPE_CHECKING:
    from fmos.runtime.kernel import Kernel
    from fmos.workflow.model import Run
    from fmos.workflow.runner import Runner

_POLL_S = 0.2

workflow_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Workflows: each step bound, done exactly once, and undone when the run fails.",
    epilog="Example:  fmos workflow run release.yaml --actor planner=crew:plan",
)

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="As `fmos workflow list` names it.")
]
TenantOption = Annotated[str, typer.Option(help="The tenant.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Stay until every question is answered or timed out.")
]


@workflow_app.command(
    epilog="Example:  fmos workflow run release.yaml --input user_query='what is new?'"
    " --actor planner=crew:plan --actor writer='./write.sh' --effect writer=idempotent"
    " --timeout 1h --on-timeout escalate:lead --on-timeout deny"
)
def run(
    context: typer.Context,
    workflow: Annotated[str, typer.Argument(help="A file, or a name in the home's contracts.")],
    given: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=VALUE", help="A port's value.  [repeatable]"),
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The inputs as one JSON object.")
    ] = None,
    actor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AGENT=WHAT", help="Who does it: module:function or a command.  [repeatable]"
        ),
    ] = None,
    undo: Annotated[
        list[str] | None,
        typer.Option(metavar="AGENT=WHAT", help="What undoes its steps.  [repeatable]"),
    ] = None,
    effect: Annotated[
        list[str] | None,
        typer.Option(metavar="AGENT=WHERE", help="volume, outside or idempotent.  [repeatable]"),
    ] = None,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="How long people are waited for, such as 1h.")
    ] = "",
    on_timeout: Annotated[
        list[str] | None,
        typer.Option(metavar="WHAT", help="deny or escalate:NAME, in turn.  [repeatable]"),
    ] = None,
    four_eyes: Annotated[
        bool, typer.Option("--four-eyes", help="Who starts the run cannot approve its steps.")
    ] = False,
    run_id: Annotated[str, typer.Option("--run", help="Its id; asked again, it goes on.")] = "",
    tenant: TenantOption = "default",
    application: Annotated[str, typer.Option(help="Of which application the agents are.")] = "",
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bind every step, then run them in order; each has one effect, also after kill -9.

    An actor runs with your rights. Exit codes: 0 done; 24 waits for a person; 21 failed and undone;
    23 could not be undone; 4, 15, 16 the workflow is not valid or cannot be bound here; 5 an
    argument is not what it should be, or a file cannot be read; 8 no such workflow.
    """
    session: Session = context.obj
    options = options_of(
        actor or [], undo or [], effect or [], timeout, on_timeout or [], four_eyes=four_eyes
    )
    with session.open() as kernel:
        runner = runner_of(kernel, options, quiet=as_json)
        document = document_of(kernel, workflow)
        found = runner.start(
            document,
            inputs_of(given or [], inputs, document),
            tenant=tenant,
            application=application,
            requested_by=person(),
            options=options,
            run=run_id,
        )
        found = _waited(runner, found) if wait else found
    finish(found, as_json=as_json)


@workflow_app.command(name="list", epilog="Example:  fmos workflow list --json")
def list_(
    context: typer.Context,
    tenant: Annotated[str, typer.Option(help="Only of this tenant.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the runs, the newest first."""
    from fmos.workflow.views import Runs  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    with session.look() as kernel:
        found = Runs(kernel).list(tenant=tenant or None, limit=limit)
        if tenant and not found:
            kernel.home.require_tenant(tenant)
    if as_json:
        rows = [each.model_dump(mode="json") for each in found]
        typer.echo(json.dumps({"runs": rows}, indent=2))
        return
    if not found:
        typer.echo("no runs")
    for each in found:
        typer.echo(safe(f"{each.run}  {each.workflow}  {each.state}  {each.reason}").rstrip())


@workflow_app.command(epilog="Example:  fmos workflow show weekly-42")
def show(
    context: typer.Context,
    run: RunArgument,
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Show a run's steps, and what it waits for. Exit code 8: there is no such run."""
    from fmos.workflow.views import Runs  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    with session.look() as kernel:
        view = Runs(kernel).view(run, tenant=tenant)
    if as_json:
        typer.echo(view.model_dump_json(indent=2))
        return
    for line in lines_of(view):
        typer.echo(safe(line))


@workflow_app.command(epilog="Example:  fmos workflow resume weekly-42")
def resume(
    context: typer.Context,
    run: RunArgument,
    tenant: TenantOption = "default",
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run from where it stands, with the actors that it was started with.

    Exit codes: as of `fmos workflow run`; 8 there is no such run.
    """
    session: Session = context.obj
    with session.open(make=False) as kernel:
        runner = _runner(kernel, run, tenant, quiet=as_json)
        found = runner.resume(run, tenant=tenant)
        found = _waited(runner, found) if wait else found
    finish(found, as_json=as_json)


@workflow_app.command(epilog="Example:  fmos workflow answer weekly-42 approve_send --approve")
def answer(
    context: typer.Context,
    run: RunArgument,
    step: Annotated[str, typer.Argument(metavar="STEP", help="The step that waits.")],
    approve: Annotated[bool, typer.Option("--approve", help="Let it go on.")] = False,
    deny: Annotated[bool, typer.Option("--deny", help="End the run and undo it.")] = False,
    happened: Annotated[
        bool, typer.Option("--happened", help="A step in doubt has had its effect.")
    ] = False,
    not_happened: Annotated[
        bool, typer.Option("--not-happened", help="A step in doubt had no effect: run it again.")
    ] = False,
    outputs: Annotated[
        str, typer.Option(metavar="JSON", help="With --happened: what the step hands on.")
    ] = "{}",
    comment: Annotated[str, typer.Option(help="Why; it is kept with the run.")] = "",
    yes: YesOption = False,
    tenant: TenantOption = "default",
) -> None:
    """Answer what a step asks, as a person; `fmos workflow resume` then goes on.

    Exit codes: 5 not exactly one answer, or it was answered before; 8 nothing is asked; 11 no
    terminal, or you may not approve it.
    """
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast
    from fmos.workflow.runner import Runner  # noqa: PLC0415

    if [approve, deny, happened, not_happened].count(True) != 1:
        raise ArgumentError(
            "an answer is one of --approve, --deny, --happened and --not-happened",
            hint=f"run `fmos workflow show {run}` to see what is asked",
        )
    if not happened:
        refuse_unused(context, "needs --happened", "outputs")
    if happened or not_happened:
        refuse_unused(context, "needs --approve or --deny", "comment")
    given = _object(outputs)
    agree(f"Say of {run} {step}: {_answer(approve, deny, happened)}?", "an answer", yes=yes)
    session: Session = context.obj
    with session.open(make=False) as kernel:
        runner, by = Runner(kernel), person()
        if approve or deny:
            said = runner.answer(run, step, approve, tenant=tenant, by=by, comment=comment).state
        else:
            runner.resolve(run, step, happened, tenant=tenant, by=by, outputs=given)
            said = "happened" if happened else "not happened"
    typer.echo(safe(f"{run} {step}: {said}, says {by}; go on with `fmos workflow resume {run}`"))


@workflow_app.command(epilog="Example:  fmos workflow cancel weekly-42 --reason 'not needed'")
def cancel(
    context: typer.Context,
    run: RunArgument,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the run.")] = "",
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Begin no further step, and undo in reverse order those that were done.

    Exit codes: 5 the run has ended; 8 there is none; 23 something could not be undone.
    """
    session: Session = context.obj
    with session.open(make=False) as kernel:
        runner = _runner(kernel, run, tenant, quiet=as_json)
        found = runner.cancel(run, tenant=tenant, by=person(), reason=reason)
    finish(found, as_json=as_json)


def _runner(kernel: Kernel, run: str, tenant: str, *, quiet: bool) -> Runner:
    from fmos.workflow.views import Runs  # noqa: PLC0415 - keeps --help fast

    return runner_of(kernel, Runs(kernel).stored(tenant, run).run.options, quiet=quiet)


def _waited(runner: Runner, run: Run) -> Run:
    """Go on with a run whenever a question of it is answered, until it waits for none."""
    while run.state == "waiting" and runner.runs.view(run.run, tenant=run.tenant).waiting:
        time.sleep(_POLL_S)
        if not runner.waits.pending(run.tenant, run.run):
            run = runner.resume(run.run, tenant=run.tenant)
    return runner.resume(run.run, tenant=run.tenant)


def _answer(approve: bool, deny: bool, happened: bool) -> str:
    if approve or deny:
        return "approve" if approve else "deny"
    return "it happened" if happened else "it did not happen"


def _object(text: str) -> dict[str, object]:
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    try:
        found = json.loads(text)
    except ValueError as error:
        raise ArgumentError(f"--outputs is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ArgumentError("--outputs is not one JSON object", hint='write {"port": value}')
    return found
