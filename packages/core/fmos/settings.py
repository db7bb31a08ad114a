"""The home's settings, `fmos.toml`: one table for each part that has something to choose.

A home without the file has the defaults. What cannot be understood is an error that names the file
and the key, never a default in its place.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fmos.errors import HomeError

FILE_NAME = "fmos.toml"


class Section(BaseModel):
    """One table of the file; a key that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AuditSettings(Section):
    """`[audit]`: when checkpoints are signed, and where copies of them go."""


class TelemetrySettings(Section):
    """`[telemetry]`: where traces and metrics go; nowhere unless it says so."""


class ReplaySettings(Section):
    """`[replay]`: what of a session is kept, so that it can be shown and run again."""


class VersionSettings(Section):
    """`[versions]`: who may accept a candidate, and when one is taken back."""


class JobSettings(Section):
    """`[jobs]`: how often the work in the background is done."""


class Settings(Section):
    """All settings of a home."""

    audit: AuditSettings = AuditSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    replay: ReplaySettings = ReplaySettings()
    versions: VersionSettings = VersionSettings()
    jobs: JobSettings = JobSettings()


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
