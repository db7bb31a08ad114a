"""What each kind of artefact must be before it may become a candidate.

A policy or trap model of a candidate can only make things stricter, as learned traps and project
policies do: nothing that a program proposes takes away what a person's own files demand.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fmos.contract.parse import decoded, load_as
from fmos.contract.policy import Policy, Prefer
from fmos.contract.trust_policy import TrustPolicy
from fmos.errors import ArgumentError, ContractError, FormatError
from fmos.types import checked_id
from fmos.versions.model import POLICY, TRAP_MODEL, TRUST_POLICY

if TYPE_CHECKING:
    from fmos.traps.learned import TrapModel

LARGEST_BYTES = 4_000_000
_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")


def version_id(content: bytes) -> str:
    """Return the id of a version: the SHA-256 of its content."""
    return hashlib.sha256(content).hexdigest()


def check_names(kind: str, name: str) -> None:
    """Refuse a kind or name that cannot be a part of a path.

    Raises:
        ArgumentError: naming it.
    """
    if _KIND.fullmatch(kind) is None:
        raise ArgumentError(
            f"{kind[:80]!r} cannot be a kind of artefact",
            hint="use lower-case letters, digits and _, such as trap_model",
        )
    checked_id(name, "an artefact's name")


def check_content(tenant: str, kind: str, content: bytes) -> None:
    """Refuse content that the kind's consumer could not use, or that could widen anything.

    Raises:
        ArgumentError: if it is empty or too large.
        ContractError: if a policy is not valid, or more than demands on this tenant.
        FormatError: if a trap model is not whole.
    """
    if not content:
        raise ArgumentError("the content is empty", hint="give the file that holds the candidate")
    if len(content) > LARGEST_BYTES:
        raise ArgumentError(
            f"the content has {len(content):,} bytes, more than the {LARGEST_BYTES:,} of an"
            " artefact",
            hint="keep large data in files, and their digest in the artefact",
        )
    if kind == POLICY:
        _require_narrow(tenant, policy_of(content))
    elif kind == TRAP_MODEL:
        trap_model_of(content)
    elif kind == TRUST_POLICY:
        _require_tight(tenant, trust_policy_of(content))


@functools.lru_cache(maxsize=256)
def policy_of(content: bytes) -> Policy:
    """Return the policy in an artefact; the same bytes give the same object.

    Raises:
        ContractError: if it is none.
    """
    return load_as(Policy, decoded(content, "the candidate"), "the candidate")


@functools.lru_cache(maxsize=256)
def trust_policy_of(content: bytes) -> TrustPolicy:
    """Return the rules in an artefact; the same bytes give the same object.

    Raises:
        ContractError: if it is none.
    """
    return load_as(TrustPolicy, decoded(content, "the candidate"), "the candidate")


@functools.lru_cache(maxsize=64)
def trap_model_of(content: bytes) -> TrapModel:
    """Return the learned traps in an artefact; the same bytes give the same object.

    Raises:
        FormatError: if they are not whole.
    """
    from fmos.traps.learned import TrapModel  # noqa: PLC0415 - the kernel starts without it

    try:
        model = TrapModel.model_validate(json.loads(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _no_model(f"{where}: {first['msg']}" if where else first["msg"]) from error
    except (ValueError, RecursionError) as error:
        raise _no_model(f"it is not JSON ({error})") from error
    if not model.digest:
        raise _no_model("it has no digest")
    return model


def _no_model(why: str) -> FormatError:
    return FormatError(
        f"the candidate is no usable file of learned traps: {why}",
        hint="train one with `fmos traps train --data FILE --out FILE`",
    )


def _require_narrow(tenant: str, policy: Policy) -> None:
    if policy.layer not in ("tenant", "role"):
        raise ContractError(
            f"a candidate policy is of the layer 'tenant' or 'role', not {policy.layer!r}",
            hint="put a policy of another layer into the home's policies/ by hand",
        )
    if policy.layer == "tenant" and policy.name != tenant:
        raise ContractError(
            f"a candidate policy of the tenant {tenant!r} cannot bind the tenant {policy.name!r}",
            hint=f"write `name: {tenant}`, or propose it for that tenant",
        )
    if policy.prefer != Prefer():
        raise ContractError(
            "a candidate policy may only demand: `prefer` gives agents what they did not ask for",
            hint="leave `prefer` out, or put it into the home's policies/ by hand",
        )


def _require_tight(tenant: str, policy: TrustPolicy) -> None:
    for _, what in policy.loosening():
        raise ContractError(
            f"a candidate trust policy may only tighten: {what}",
            hint="put what allows into the home's policies/trust/ by hand",
        )
    if not set(policy.tenants) <= {tenant}:
        raise ContractError(
            f"a candidate trust policy of the tenant {tenant!r} cannot bind other tenants",
            hint=f"leave `tenants` out, or write `tenants: [{tenant}]`",
        )
