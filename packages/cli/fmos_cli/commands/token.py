"""`fmos token`: the bearer tokens by which `fmos serve` knows who calls over TCP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos.clock import utc_text
from fmos_cli.session import Session

if TYPE_CHECKING:
    from fmos.runtime.kernel import Kernel
    from fmos.serving.credentials.store import Token
    from fmos.serving.credentials.tokens import Tokens
    from fmos.types import Principal


token_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Bearer tokens: who may call over TCP, and for whom.",
    epilog="Example:  fmos token issue --agent writer --ttl 12h",
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


@token_app.command(epilog="Example:  fmos token issue --tenant acme --agent writer --ttl 12h")
def issue(
    context: typer.Context,
    agent: Annotated[str, typer.Option(help="Whom its holder acts for.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose volume it reaches.")] = "default",
    application: Annotated[str, typer.Option(help="Of which application the agent is.")] = "",
    session: Annotated[str, typer.Option(help="The only session; without it, any.")] = "",
    role: Annotated[str, typer.Option(help="Whose policies bind it as well.")] = "",
    any_agent: Annotated[
        bool,
        typer.Option(
            "--any-agent", help="Its holder may act for every agent of the tenant's application."
        ),
    ] = False,
    ttl: Annotated[str, typer.Option(help="How long it is good: 30d, 12h, 90m, 45s.")] = "30d",
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it, once, with the key that checks the tenant's signatures.

    The home keeps only a hash of it. Exit code 5: no agent is named, or an id cannot be one.
    """
    from fmos.serving.credentials.tokens import parse_ttl  # noqa: PLC0415 - keeps --help fast

    who = _principal(tenant, application, agent, session, role)
    with context.obj.open() as kernel:
        text, token = _tokens(kernel).issue(who, parse_ttl(ttl), any_agent=any_agent)
        public_key = kernel.keys_of(who.tenant).public_key
    if as_json:
        document = {"token": text, **_shown(token, "valid"), "public_key": public_key}
        typer.echo(json.dumps(document, indent=2))
        return
    typer.echo(text)
    typer.echo(f"  {_whom(who)}, until {_day(token.expires_ns)}; shown only now", err=True)
    typer.echo(f"  public key of {who.tenant}: {public_key}", err=True)


@token_app.command("list", epilog="Example:  fmos token list --json")
def list_(context: typer.Context, as_json: JsonOption = False) -> None:
    """List every token that was issued, without its secret, oldest first."""
    session: Session = context.obj
    with session.look() as kernel:
        now_ns = kernel.clock.now_ns()
        found = [(token, token.state(now_ns)) for token in _tokens(kernel).all()]
    if as_json:
        document = {"tokens": [_shown(token, state) for token, state in found]}
        typer.echo(json.dumps(document, indent=2))
        return
    if not found:
        typer.echo("no token was issued")
    for token, state in found:
        used = f"used {_day(token.used_ns)}" if token.used_ns else "never used"
        until = _day(token.expires_ns)
        typer.echo(f"{token.id}  {state:<7}  until {until}  {used}  {_whom(token.principal)}")


@token_app.command(epilog="Example:  fmos token revoke 3f2a9c0b11d4")
def revoke(
    context: typer.Context,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="As in `fmos token list`.")],
) -> None:
    """End a token at once. Exit code 8: there is no such token; 5: it is revoked already."""
    session: Session = context.obj
    with session.open(make=False) as kernel:
        _tokens(kernel).revoke(identifier)
    typer.echo(f"revoked {identifier}")


def _tokens(kernel: Kernel) -> Tokens:
    from fmos.serving.credentials.tokens import Tokens  # noqa: PLC0415 - keeps --help fast

    return Tokens(kernel.database, kernel.clock)


def _principal(tenant: str, application: str, agent: str, session: str, role: str) -> Principal:
    from pydantic import ValidationError  # noqa: PLC0415 - keeps --help fast

    from fmos.errors import ArgumentError  # noqa: PLC0415
    from fmos.serving.validation import describe_validation  # noqa: PLC0415
    from fmos.types import Principal  # noqa: PLC0415

    try:
        return Principal(
            tenant=tenant, application=application, agent=agent, session=session, role=role
        )
    except ValidationError as error:
        raise ArgumentError(
            describe_validation(error),
            hint="use letters, digits and ._@+- only, starting with a letter or digit",
        ) from error


def _whom(who: Principal) -> str:
    parts = [f"tenant {who.tenant}"]
    if who.application:
        parts.append(f"application {who.application}")
    parts.append(f"agent {who.agent}" if who.agent else "any agent")
    parts.extend(f"{name} {value}" for name in ("session", "role") if (value := getattr(who, name)))
    return ", ".join(parts)


def _shown(token: Token, state: str) -> dict[str, Any]:
    return {
        "id": token.id,
        "state": state,
        **token.principal.model_dump(exclude={"branch"}),
        "any_agent": not token.principal.agent,
        "created_ns": token.created_ns,
        "expires_ns": token.expires_ns,
        "used_ns": token.used_ns,
        "revoked_ns": token.revoked_ns,
    }


def _day(time_ns: int) -> str:
    return f"{utc_text(time_ns, 'minutes')} UTC"
