"""`fmos ledger`: what accounts have used and may use, and the limits that a person sets."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from fmos.clock import utc_text
from fmos_cli.moments import is_number, moment_ns
from fmos_cli.session import Session

if TYPE_CHECKING:
    from fmos.ledger.accounts import Account
    from fmos.ledger.model import Alert, Balance
    from fmos.runtime.kernel import Kernel


ledger_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Accounts: what was spent, what is left, and limits that a person sets.",
    epilog="Example:  fmos ledger show --agent writer --session monday",
)

AgentOption = Annotated[str, typer.Option(help="The agent; without it, the tenant.")]
SessionOption = Annotated[str, typer.Option(help="The agent's session; without it, all together.")]
TenantOption = Annotated[str, typer.Option(help="The tenant.")]
ApplicationOption = Annotated[str, typer.Option(help="Of which application the agent is.")]
AccountOption = Annotated[
    str, typer.Option(help="The whole path instead, such as org:default/tenant:acme.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


@ledger_app.command(epilog="Example:  fmos ledger show --agent writer --session monday")
def show(
    context: typer.Context,
    agent: AgentOption = "",
    session: SessionOption = "",
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    account: AccountOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the balances of an account and of every account above it, which pay for it too.

    Exit code 5: what is given cannot be an account.
    """
    own: Session = context.obj
    path = _account(account, tenant, application, agent, session)
    with own.look() as kernel:
        balances = kernel.ledger.status(path)
        _require(kernel, path, account, tenant)
        prices = kernel.ledger.prices(path)
    if as_json:
        rows = [balance.model_dump(mode="json") for balance in balances]
        typer.echo(json.dumps({"account": path, "balances": rows, "prices": prices}, indent=2))
        return
    if not balances:
        typer.echo(f"{path} has spent nothing and has no limits")
    for line in _table(balances):
        typer.echo(line)


@ledger_app.command(epilog="Example:  fmos ledger limit tokens 200000 --agent writer --window day")
def limit(
    context: typer.Context,
    resource: Annotated[str, typer.Argument(help="tokens, currency, tool_calls, ...")],
    amount: Annotated[str, typer.Argument(help="A whole number such as 5000 or 50k, or none.")],
    agent: AgentOption = "",
    session: SessionOption = "",
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    account: AccountOption = "",
    window: Annotated[
        str, typer.Option(help="Of which time: total, minute, hour, day, month.")
    ] = "total",
) -> None:
    """Limit an account and all below it; `none` takes the limit away again.

    It goes before what contracts and policies declare for the same account. Exit code 5: an
    argument is not what it should be.
    """
    own: Session = context.obj
    with own.open() as kernel:
        path = _account(account, tenant, application, agent, session)
        number = None if amount == "none" else _amount(amount)
        kernel.ledger.set_limit(path, resource, number, window)  # type: ignore[arg-type]
    said = "no limit by hand" if number is None else f"at most {number:,}"
    per = "" if window == "total" else f" per {window}"
    typer.echo(f"{path}: {said} of {resource}{per}")


@ledger_app.command(epilog="Example:  fmos ledger alerts --tenant acme --since 12")
def alerts(
    context: typer.Context,
    agent: AgentOption = "",
    session: SessionOption = "",
    tenant: TenantOption = "default",
    application: ApplicationOption = "",
    account: AccountOption = "",
    since: Annotated[
        str,
        typer.Option(metavar="WHEN", help="Only what came after it: an id, a day, a time, or 7d."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """List when an account, or one above it, had spent 50, 80, 95 and 100 % of a limit."""
    own: Session = context.obj
    path = _account(account, tenant, application, agent, session)
    with own.look() as kernel:
        found = kernel.ledger.alerts(path, int(since) if is_number(since) else 0)
        _require(kernel, path, account, tenant)
    if since and not is_number(since):
        from_ns = moment_ns(since)
        found = tuple(alert for alert in found if alert.at_ns >= from_ns)
    if as_json:
        rows = [alert.model_dump(mode="json") for alert in found]
        typer.echo(json.dumps({"account": path, "alerts": rows}, indent=2))
        return
    if not found:
        typer.echo("no alerts")
    for alert in found:
        typer.echo(_alert(alert))


def _account(text: str, tenant: str, application: str, agent: str, session: str) -> Account:
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast
    from fmos.ledger.accounts import Account, account_of  # noqa: PLC0415

    if text:
        return Account.parse(text)
    if session and not agent:
        raise ArgumentError("--session needs --agent", hint="name the agent whose session it is")
    return account_of(tenant, application, agent, session)


def _require(kernel: Kernel, path: Account, account: str, tenant: str) -> None:
    """Refuse a tenant that is not there and has neither spent nor limits."""
    below = {each.account for each in kernel.ledger.status(path)}
    if not account and not any(f"/tenant:{tenant}" in each for each in below):
        kernel.home.require_tenant(tenant)


def _amount(text: str) -> int:
    from fmos.contract.model import parse_amount  # noqa: PLC0415 - keeps --help fast
    from fmos.errors import ArgumentError  # noqa: PLC0415

    number = parse_amount(text)
    if not isinstance(number, int):
        raise ArgumentError(
            f"{text!r} cannot be an amount",
            hint="give a whole number, such as 5000 or 50k, or none",
        )
    return number


def _table(balances: Iterable[Balance]) -> Iterable[str]:
    shown = ""
    for each in balances:
        if each.account != shown:
            shown = each.account
            yield shown
        window = "" if each.window == "total" else f" this {each.window}"
        limited = "no limit" if each.limit is None else f"{each.left:,} of {each.limit:,} left"
        debt = f", {each.debt:,} in debt" if each.debt else ""
        held = f", {each.reserved:,} reserved" if each.reserved else ""
        yield f"  {each.resource:<13} {each.spent:>12,} spent{window}{held}; {limited}{debt}"


def _alert(alert: Alert) -> str:
    window = "" if alert.window == "total" else f" of this {alert.window}"
    return (
        f"{alert.id}  {utc_text(alert.at_ns)}  {alert.percent} % of {alert.limit:,}"
        f" {alert.resource}{window}: {alert.account}"
    )
