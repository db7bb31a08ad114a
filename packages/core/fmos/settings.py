"""The home's settings, `fmos.toml`: one table for each part that has something to choose.

A home without the file has the defaults. What cannot be understood is an error that names the file
and the key, never a default in its place.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fmos.errors import HomeError

FILE_NAME = "fmos.toml"


def _zone(name: str) -> str:
    """Return a time zone's name that this machine knows."""
    try:
        return name if name == "UTC" else str(ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone known here; write Europe/Berlin") from error


class Section(BaseModel):
    """One table of the file; a key that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AuditSettings(Section):
    """`[audit]`: when checkpoints are signed, and where copies of them go."""

    checkpoint_rows: int = Field(
        default=1000, ge=1, description="sign when so many rows came since the last checkpoint"
    )
    checkpoint_seconds: float = Field(
        default=60, gt=0, description="sign when a row has waited so long for a checkpoint"
    )
    keep_days: float = Field(
        default=30,
        ge=0,
        description="journal rows stay so long, also if `history_retention` is less",
    )
    export_to: str = Field(
        default="", description="a folder outside the home that gets a copy of every checkpoint"
    )


class TelemetrySettings(Section):
    """`[telemetry]`: where traces and metrics go; nowhere unless it says so."""

    exporter: Literal["none", "otlp", "console", "file"] = "none"
    endpoint: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="base URL of an OTLP/HTTP collector; empty: the standard one, on this machine",
    )
    file: str = Field(
        default="telemetry.jsonl",
        min_length=1,
        description="where `file` writes; a relative path starts in the home",
    )
    file_megabytes: int = Field(
        default=100, ge=1, description="a fuller file becomes FILE.1, in place of the one before"
    )
    sample: float = Field(default=1.0, ge=0, le=1, description="share of the traces that is kept")
    content: bool = Field(
        default=False,
        description="send content too, as far as the contract's log_fields name it",
    )


class ReplaySettings(Section):
    """`[replay]`: what of a session is kept, so that it can be shown and run again."""

    record: bool = Field(default=True, description="false: only the journal, which has no content")
    keep_days: float = Field(
        default=30, ge=0, description="sessions that began before are forgotten; 0: never"
    )


class VersionSettings(Section):
    """`[versions]`: who may accept a candidate, and when one is taken back."""

    self_accept: bool = Field(default=False, description="an author may accept its own candidate")
    frozen: bool = Field(default=False, description="every tenant serves what it has accepted now")
    min_traces: int = Field(
        default=30, ge=1, description="held-out traces below which no evaluation passes"
    )
    tolerance: float = Field(
        default=0.02, ge=0, description="how much worse a metric may be and still count as kept"
    )
    min_sessions: int = Field(
        default=10, ge=1, description="pairs of sessions before a canary may be taken back"
    )
    error_rate: float = Field(
        default=0.05, gt=0, lt=1, description="of taking back a canary that is no worse"
    )
    quiet_s: float = Field(
        default=60, ge=0, description="a canary's session counts when nothing came for so long"
    )


class JobSettings(Section):
    """`[jobs]`: how often the work in the background is done, in seconds; 0 is never."""

    expire_s: float = Field(
        default=60, ge=0, le=86_400, description="reservations, approvals, what killed imports left"
    )
    gc_s: float = Field(
        default=86_400, ge=0, description="history past its retention, and bytes nothing leads to"
    )
    checkpoints_s: float = Field(
        default=10, ge=0, le=86_400, description="a look whether an audit checkpoint is due"
    )
    canaries_s: float = Field(
        default=60, ge=0, le=86_400, description="a look at candidates that are tried out"
    )


class DriverSettings(Section):
    """`[drivers]`: which plug-ins are used: those built in, and others only if named here."""

    allowed: tuple[str, ...] = Field(default=(), description="names or globs, such as `acme-*`")
    policies: tuple[str, ...] = Field(default=(), description="policy modules that judge calls")
    timeout_s: float = Field(default=5.0, gt=0, le=600, description="for one run of a plug-in")
    options: dict[str, dict[str, Any]] = Field(default={}, description="by the plug-in's name")


class TrustSettings(Section):
    """`[trust]`: how the trust gate judges, beside what contracts and policies say."""

    evidence: Literal["enforce", "shadow", "off"] = Field(
        default="enforce",
        description="who asked for a call: stop it, only note what would be stopped, or do not ask",
    )
    trusted_tools: tuple[str, ...] = Field(
        default=(), description="names or globs of tools into whose output no stranger can write"
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="in which rules name hours and days"
    )
    evidence_keep_days: float = Field(
        default=30, ge=0, description="what entered a session is known so long; 0: for ever"
    )
    secrets_keep_days: float = Field(
        default=30, ge=0, description="a seen secret is recognised so long; 0: for ever"
    )
    redact_outputs: tuple[str, ...] = Field(
        default=("secrets",), description="classes or rules hidden from models in what tools return"
    )
    redact_arguments: tuple[str, ...] = Field(
        default=(), description="classes or rules taken out of what leaves; secrets never leave"
    )
    reversible: tuple[str, ...] = Field(
        default=(), description="classes or rules hidden by a token that leads back to the value"
    )
    restore_for: tuple[str, ...] = Field(
        default=(), description="names or globs of tools that get the values of such tokens"
    )
    approve_within_s: float = Field(
        default=600, gt=0, le=30 * 86_400, description="what nobody answers so long is refused"
    )
    approvers: tuple[str, ...] = Field(
        default=(), description="who may answer, such as `user:ann`; empty: who is at a terminal"
    )
    escalate_to: tuple[str, ...] = Field(
        default=(), description="who may answer as well when half of the time has passed"
    )
    max_pending: int = Field(default=20, ge=1, description="calls of one agent that may wait")
    draft_command: tuple[str, ...] = Field(
        default=(),
        description="asked by `fmos policy draft` to put a text into controlled English: a model",
    )
    elicit: bool = Field(
        default=True, description="ask through a client that can ask its user (MCP elicitation)"
    )
    pins: Literal["first_use", "approve"] = Field(
        default="first_use",
        description="an application's first catalogue of tools counts at once, or after approval",
    )


class Settings(Section):
    """All settings of a home."""

    audit: AuditSettings = AuditSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    replay: ReplaySettings = ReplaySettings()
    versions: VersionSettings = VersionSettings()
    jobs: JobSettings = JobSettings()
    drivers: DriverSettings = DriverSettings()
    trust: TrustSettings = TrustSettings()


def read_settings(home: Path) -> Settings:
    """Return the settings of a home.

    Raises:
        HomeError: naming the file and the key, if the file cannot be read or understood.
    """
    path = home / FILE_NAME
    try:
        return Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise HomeError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HomeError(f"{str(path)!r} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        wrong = "is no setting" if first["type"] == "extra_forbidden" else f"- {first['msg']}"
        raise HomeError(
            f"{str(path)!r}: {key!r} {wrong}", hint="correct the line, or remove it"
        ) from error
