"""What the standard OTEL_* variables say of a process; the doors read them and pass them in."""

from __future__ import annotations

from collections.abc import Mapping

from fmos.errors import ArgumentError
from fmos.settings import TelemetrySettings

_EXPORTERS = ("none", "otlp", "console")
_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_SAMPLERS = {
    "always_on": 1.0,
    "always_off": 0.0,
    "parentbased_always_on": 1.0,
    "parentbased_always_off": 0.0,
}
_RATIOS = ("traceidratio", "parentbased_traceidratio")


def with_environment(settings: TelemetrySettings, environ: Mapping[str, str]) -> TelemetrySettings:
    """Return the settings as the environment has them: it wins over the file.

    An endpoint alone turns the OTLP exporter on; headers are left to the exporter, which reads
    OTEL_EXPORTER_OTLP_HEADERS itself, so that no file of ours ever holds one.

    Raises:
        ArgumentError: naming the variable that cannot be understood.
    """
    update: dict[str, object] = {}
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return settings.model_copy(update={"exporter": "none"})
    chosen = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if chosen:
        update["exporter"] = _known(chosen)
    elif settings.exporter == "none" and any(environ.get(name) for name in _ENDPOINTS):
        update["exporter"] = "otlp"
    if any(environ.get(name) for name in _ENDPOINTS):
        update["endpoint"] = ""  # the exporter finds it where it was found here
    share = _share(environ)
    if share is not None:
        update["sample"] = share
    return settings.model_copy(update=update) if update else settings


def _known(exporter: str) -> str:
    if exporter not in _EXPORTERS:
        raise ArgumentError(
            f"OTEL_TRACES_EXPORTER names the exporter {exporter!r}, which is not there",
            hint=f'use {", ".join(_EXPORTERS)}, or `exporter = "file"` in fmos.toml',
        )
    return exporter


def _share(environ: Mapping[str, str]) -> float | None:
    """Return the share of traces to keep, or None where nothing is said of it."""
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if sampler in _SAMPLERS:
        return _SAMPLERS[sampler]
    if sampler not in _RATIOS:
        return None
    given = environ.get("OTEL_TRACES_SAMPLER_ARG", "1")
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ArgumentError(
            f"OTEL_TRACES_SAMPLER_ARG is {given!r}", hint="give a number from 0 to 1"
        )
    return share
