"""Telemetry as a whole: off it costs nothing, on it can hurt nobody, and what it writes is OTLP."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("opentelemetry.sdk", reason="needs the extra `otel`")

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, mcp_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics, mcp_metrics
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from tests.core import otlp_lines

from fmos import telemetry
from fmos.client import Governor, connect
from fmos.errors import ArgumentError, HomeError
from fmos.runtime.kernel import Kernel
from fmos.settings import TelemetrySettings, read_settings
from fmos.telemetry import context, names
from fmos.types import Operation, OperationKind, Principal

WHO = Principal(agent="ada", session="s1")
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
class: { latency: SRT }
capabilities: [ "fs.read" ]
"""


@pytest.fixture(autouse=True)
def switched_off() -> Iterator[None]:
    """Each test begins and ends with telemetry off."""
    telemetry.shutdown(0)
    yield
    telemetry.shutdown(0)


def model_call(governor: Governor) -> None:
    """Make one governed model call."""
    call = Operation(kind=OperationKind.MODEL_GENERATE, name="gpt-5", principal=WHO)
    assert governor.before_model(call).allowed
    governor.after_model(call, {"input_tokens": 7, "output_tokens": 5})


def intents(kernel: Kernel) -> list[dict[str, Any]]:
    """Return the intent rows of the tenant's journal."""
    return [row.detail for row in kernel.volume("default").journal(operation="op.intent")]


# Off


def test_nothing_of_opentelemetry_is_imported_while_it_is_off(tmp_path: Path) -> None:
    """A governed run in a process of its own loads no module of OpenTelemetry."""
    program = f"""
import sys
from fmos.client import Governor, connect
from fmos.types import Operation, Principal
who = Principal(agent="ada", session="s1")
with connect(who, home={str(tmp_path / "home")!r}, transport="inprocess") as client:
    governor = Governor(client)
    governor.open_session()
    governor.append("user", "hello")
    call = Operation(kind="model.generate", name="m", principal=who)
    governor.before_model(call)
    governor.after_model(call, {{"tokens": 3}})
    governor.flush()
print(sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_rows_have_a_trace_for_each_turn_while_it_is_off(kernel: Kernel) -> None:
    """Operations of one turn share a W3C trace id, the next turn has another, and none a span."""
    governor = Governor(connect(WHO, kernel=kernel))
    governor.open_session()
    for _ in range(2):
        governor.append("user", "hello")
        model_call(governor)
        model_call(governor)
        governor.flush()
    traces = [row["trace"] for row in intents(kernel)]
    assert traces[0] == traces[1] != traces[2] == traces[3]
    assert all(context.trace_id(trace) for trace in traces)
    assert [row["span"] for row in intents(kernel)] == [None] * 4


def test_a_row_has_a_trace_whoever_asks(kernel: Kernel) -> None:
    """A client that knows of no trace, or names one that is none, gets a fresh one in its row."""
    client = connect(WHO, kernel=kernel)
    for trace in (None, "0" * 32, "../../etc", "a" * 32):
        asked = {"kind": "model.generate", "name": "m", "trace": trace}
        client.call("budget_admit", {"operation": asked})
    found = [row["trace"] for row in intents(kernel)]
    assert found[3] == "a" * 32
    assert len(set(found)) == 4
    assert all(context.trace_id(each) for each in found)


# W3C context


@given(st.text(max_size=70) | st.none() | st.integers() | st.binary())
def test_what_is_no_traceparent_is_passed_over(value: object) -> None:
    """Anything that is no traceparent is no error."""
    found = context.parsed(value)
    assert found is None or value == context.written(found) or not str(value).startswith("00-")


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.booleans())
def test_a_traceparent_reads_as_it_was_written(trace: bytes, span: bytes, sampled: bool) -> None:
    """Writing and reading a context gives it again, if its ids are not all zero."""
    given_context = context.TraceContext(trace.hex(), span.hex(), sampled)
    zero = not any(trace) or not any(span)
    assert context.parsed(context.written(given_context)) == (None if zero else given_context)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes", True),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", False),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01", False),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
    ],
)
def test_traceparents_of_the_specification(text: str, known: bool) -> None:
    """The examples of the specification are read, or passed over, as it says."""
    assert (context.parsed(text) is not None) == known


# Settings


@pytest.mark.parametrize(
    ("environ", "exporter", "sample"),
    [
        ({}, "file", 0.5),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, "none", 0.5),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console", 0.5),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "file", 0.0),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
            "file",
            0.1,
        ),
    ],
)
def test_the_environment_wins_over_the_file(
    environ: dict[str, str], exporter: str, sample: float
) -> None:
    """The standard variables say where it goes, and what share of it."""
    settings = TelemetrySettings(exporter="file", sample=0.5)
    found = telemetry.with_environment(settings, environ)
    assert (found.exporter, found.sample) == (exporter, sample)


def test_an_endpoint_in_the_environment_turns_it_on() -> None:
    """OTEL_EXPORTER_OTLP_ENDPOINT alone turns the OTLP exporter on, and is left to it."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    found = telemetry.with_environment(TelemetrySettings(endpoint="http://other"), environ)
    assert (found.exporter, found.endpoint) == ("otlp", "")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "SAMPLER_ARG"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "x"}, "SAMPLER_ARG"),
    ],
)
def test_a_variable_that_cannot_be_understood_is_named(environ: dict[str, str], named: str) -> None:
    """What is not understood is an error that names it."""
    with pytest.raises(ArgumentError, match=named):
        telemetry.with_environment(TelemetrySettings(), environ)


@pytest.mark.parametrize("line", ["exporter = 'zipkin'", "sample = 2", "endpoint = 'x'", "on = 1"])
def test_settings_that_cannot_be_understood_are_named(tmp_path: Path, line: str) -> None:
    """A wrong `[telemetry]` names the file and the key."""
    (tmp_path / "fmos.toml").write_text(f"[telemetry]\n{line}\n")
    with pytest.raises(HomeError, match=f"telemetry.{line.split()[0]}"):
        read_settings(tmp_path)


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    """A process without OpenTelemetry that is to send it says what to install; a client goes on."""
    program = """
import sys
sys.modules["opentelemetry.sdk"] = None
from fmos import telemetry
from fmos.settings import TelemetrySettings
settings = TelemetrySettings(exporter="console")
print(telemetry.configure(settings, "x", required=False))
telemetry.configure(settings, "x")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "False\n"
    assert 'pip install "fmos[otel]"' in done.stderr.splitlines()[-1]
    assert "MissingExtraError" in done.stderr


# Names


def test_names_are_those_of_the_conventions() -> None:
    """Every `gen_ai.*` and `mcp.*` name that we use is in the installed conventions."""
    modules = (gen_ai_attributes, mcp_attributes, gen_ai_metrics, mcp_metrics)
    modules += (error_attributes, server_attributes)
    known = {value for module in modules for value in vars(module).values() if _is_name(value)}
    newer = {names.TOOL_DURATION}  # of the conventions' own repository, after the package
    ours = {value for value in vars(names).values() if _is_name(value)}
    assert {each for each in ours if each.startswith(("gen_ai.", "mcp."))} - newer <= known


def _is_name(value: object) -> bool:
    return isinstance(value, str) and "." in value


# Exporters


def test_the_file_is_otlp(kernel: Kernel) -> None:
    """Each line of the file is a message of OTLP, by its own definition."""
    path = _run_into_file(kernel)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {key for line in lines for key in line} == {"resourceSpans", "resourceMetrics"}
    for line in lines:
        message = TracesData() if "resourceSpans" in line else MetricsData()
        ParseDict(_with_base64(line), message)
    assert path.stat().st_mode & 0o777 == 0o600


def _with_base64(value: Any) -> Any:
    """OTLP has ids in hex where protobuf's JSON has base64."""
    if isinstance(value, list):
        return [_with_base64(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(each)).decode()
        if key in ("traceId", "spanId", "parentSpanId")
        else _with_base64(each)
        for key, each in value.items()
    }


def test_a_full_file_makes_room(tmp_path: Path) -> None:
    """A file at its limit becomes FILE.1, and no line is lost or cut."""
    from fmos.telemetry.otlp_file import OtlpFile

    file = OtlpFile(tmp_path / "t.jsonl", 1000)
    for number in range(30):
        assert file.append({"number": number, "text": "x" * 50})
    kept = [
        json.loads(line)["number"]
        for name in ("t.jsonl.1", "t.jsonl")
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert kept == list(range(30))[-len(kept) :]
    assert (tmp_path / "t.jsonl").stat().st_size <= 1100


def test_a_file_that_cannot_be_written_harms_nobody(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    """Operations go on while no span can be written, which is said once."""
    settings = TelemetrySettings(exporter="file", file="no/such/folder/t.jsonl")
    telemetry.configure(settings, "test", home=kernel.home.path)
    governor = Governor(connect(WHO, kernel=kernel))
    governor.open_session()
    model_call(governor)
    telemetry.shutdown()
    assert len(intents(kernel)) == 1
    said = [record for record in caplog.records if "cannot be written" in record.message]
    assert len(said) == 1


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    for connection in kept:
        connection.close()


@pytest.fixture(autouse=True)
def _no_sender_left() -> Iterator[None]:
    """Wait for senders: one that outlives its test draws from the `random` that others replay."""
    yield
    telemetry.shutdown(0.1)
    for thread in threading.enumerate():
        if thread.name.startswith("Otel"):
            thread.join(30)


@pytest.mark.parametrize("dead", [True, False], ids=["refusing", "silent"])
def test_an_endpoint_that_fails_or_hangs_slows_nobody(
    kernel: Kernel, silent_port: int, dead: bool
) -> None:
    """Operations are as fast as ever, and the process ends in time, with nobody to send to."""
    port = 9 if dead else silent_port
    telemetry.configure(
        TelemetrySettings(exporter="otlp", endpoint=f"http://127.0.0.1:{port}"), "test"
    )
    governor = Governor(connect(WHO, kernel=kernel))
    governor.open_session()
    begin = time.perf_counter()
    for _ in range(30):
        model_call(governor)
    assert time.perf_counter() - begin < 4.5, "an attempt to send takes 5 s"
    begin = time.perf_counter()
    telemetry.shutdown(0.5)
    assert time.perf_counter() - begin < 3
    assert len(intents(kernel)) == 30


def test_spans_that_do_not_fit_the_queue_are_dropped(
    silent_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits for a deaf collector is bounded: the rest is dropped, and nobody waits."""
    telemetry.configure(
        TelemetrySettings(exporter="otlp", endpoint=f"http://127.0.0.1:{silent_port}"), "test"
    )
    begin = time.perf_counter()
    for _ in range(6000):
        with telemetry.served("memory_get", "stdio"):
            pass
    assert time.perf_counter() - begin < 4.5, "an attempt to send takes 5 s"
    assert any("Queue full" in record.message for record in caplog.records)


def test_metrics_say_what_was_used_and_decided(kernel: Kernel) -> None:
    """Tokens, operations, spending and the time of each layer are metrics."""
    found = otlp_lines.metrics(_run_into_file(kernel))
    tokens = {
        point["attributes"][names.TOKEN_TYPE]: point["sum"] for point in found[names.CLIENT_TOKENS]
    }
    assert tokens == {"input": 7, "output": 5}
    (decided,) = found[names.OPERATIONS]
    assert decided["asInt"] == "1"
    assert decided["attributes"][names.OPERATION_KIND] == "model.generate"
    (spent,) = found[names.SPENT]
    assert (spent["asInt"], spent["attributes"][names.RESOURCE]) == ("12", "tokens")
    layers = {point["attributes"][names.LAYER] for point in found[names.OVERHEAD]}
    assert layers >= {"client", "service", "ledger", "journal", "context"}
    assert {names.MCP_SERVER_DURATION, names.CLIENT_DURATION, names.TRAP_SLOW} <= found.keys()


def _run_into_file(kernel: Kernel) -> Path:
    """Make one governed call that is told into the home's file, and return the file."""
    telemetry.configure(TelemetrySettings(exporter="file"), "test", home=kernel.home.path)
    governor = Governor(connect(WHO, kernel=kernel))
    governor.open_session()
    governor.append("user", "hello")
    model_call(governor)
    governor.flush()
    telemetry.shutdown()
    return kernel.home.path / "telemetry.jsonl"
