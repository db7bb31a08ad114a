"""`fmos demo`: one governed agent run through every layer, on a copy of a real directory."""

from fmos.errors import MissingExtraError

try:
    from fmos_cli.demo.run import run_demo
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"`fmos demo` runs a LangGraph agent and {error.name!r} is not installed",
        hint='pip install "fmos[servers,langgraph]"',
    ) from error

__all__ = ["run_demo"]
