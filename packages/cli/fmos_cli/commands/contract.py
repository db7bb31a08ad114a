"""`fmos contract`: what can be done with contracts, binding documents, workflows and policies.

Each sub-command has a file of its own beside this one and is registered here.
"""

from __future__ import annotations

import typer

from fmos_cli.commands import contract_bind, contract_diff, contract_explain, contract_lint

contract_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check, bind, explain and compare contracts, binding documents, workflows and policies.",
)

contract_app.command(epilog=contract_lint.EPILOG)(contract_lint.lint)
contract_app.command(epilog=contract_bind.EPILOG)(contract_bind.bind)
contract_app.command(epilog=contract_explain.EPILOG)(contract_explain.explain)
contract_app.command(epilog=contract_diff.EPILOG)(contract_diff.diff)
