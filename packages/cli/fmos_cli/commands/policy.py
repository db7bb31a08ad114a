"""`fmos policy`: the rules by which the trust gate judges tool calls.

Each sub-command has a file of its own beside this one and is registered here.
"""

from __future__ import annotations

import typer

from fmos_cli.commands import policy_draft, policy_explain, policy_lint, policy_show, policy_test

policy_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check, try, show and explain the trust gate's policies.",
)

policy_app.command(epilog=policy_lint.EPILOG)(policy_lint.lint)
policy_app.command(name="test", epilog=policy_test.EPILOG)(policy_test.try_out)
policy_app.command(epilog=policy_show.EPILOG)(policy_show.show)
policy_app.command(epilog=policy_explain.EPILOG)(policy_explain.explain)
policy_app.command(epilog=policy_draft.EPILOG)(policy_draft.draft)
