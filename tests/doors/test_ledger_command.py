"""`fmos ledger`: people see what was spent, and set limits that hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fmos.errors import BudgetExceededError
from fmos.runtime.kernel import Kernel
from fmos.types import Principal
from fmos_cli.main import app

WHO = Principal(tenant="acme", agent="writer", session="s1")


def fmos(home: Path, *arguments: str) -> Result:
    """Run `fmos ledger` on a home."""
    return CliRunner().invoke(app, ["--home", str(home), "ledger", *arguments])


def test_a_limit_set_by_hand_holds_and_goes(tmp_path: Path) -> None:
    """What a person limits cannot be reserved, until the limit is taken away."""
    for amount, allowed in (("1k", False), ("none", True)):
        said = fmos(tmp_path, "limit", "tokens", amount, "--tenant", "acme", "--agent", "writer")
        assert said.exit_code == 0, said.output
        with Kernel.open(tmp_path) as kernel:
            if allowed:
                kernel.reserve(WHO, {"tokens": 1001}, operation=f"o-{amount}")
            else:
                with pytest.raises(BudgetExceededError, match="agent:writer"):
                    kernel.reserve(WHO, {"tokens": 1001}, operation=f"o-{amount}")


def test_balances_of_the_whole_path_are_shown(tmp_path: Path) -> None:
    """Spending shows on the session and on every account above it, as text and as JSON."""
    fmos(tmp_path, "limit", "tokens", "500", "--tenant", "acme", "--window", "day")
    with Kernel.open(tmp_path) as kernel:
        made = kernel.reserve(WHO, {"tokens": 400}, operation="o1")
        kernel.ledger.commit(made.id)
    asked = ("--tenant", "acme", "--agent", "writer", "--session", "s1")
    text = fmos(tmp_path, "show", *asked).output
    assert "400 spent this day; 100 of 500 left" in text
    rows = json.loads(fmos(tmp_path, "show", *asked, "--json").output)["balances"]
    spent = {row["account"].rpartition("/")[2]: row["spent"] for row in rows}
    paying = ("org:default", "tenant:acme", "app:-", "agent:writer", "session:s1")
    assert spent == dict.fromkeys(paying, 400)


def test_alerts_are_listed_once(tmp_path: Path) -> None:
    """Crossing a share of a limit is listed, and `--since` passes over what was seen."""
    fmos(tmp_path, "limit", "tokens", "500", "--tenant", "acme")
    with Kernel.open(tmp_path) as kernel:
        made = kernel.reserve(WHO, {"tokens": 400}, operation="o1")
        kernel.ledger.commit(made.id)
    found = json.loads(fmos(tmp_path, "alerts", "--tenant", "acme", "--json").output)["alerts"]
    assert [alert["percent"] for alert in found] == [50, 80]
    text = fmos(tmp_path, "alerts", "--tenant", "acme").output
    assert "80 % of 500 tokens: org:default/tenant:acme" in text
    last = str(found[-1]["id"])
    assert "no alerts" in fmos(tmp_path, "alerts", "--tenant", "acme", "--since", last).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("limit", "tokns", "5"), "did you mean 'tokens'"),
        (("limit", "tokens", "many"), "'many' cannot be an amount"),
        (("limit", "tokens", "5", "--window", "week"), "no window 'week'"),
        (("show", "--session", "s1"), "--session needs --agent"),
        (("show", "--account", "acme"), "'acme' cannot be an account"),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """A wrong argument is one sentence and exit code 5."""
    said = fmos(tmp_path, *arguments)
    assert said.exit_code == 5
    assert message in said.output
