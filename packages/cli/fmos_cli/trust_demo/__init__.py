"""`fmos demo --story trust`: one attacked agent, and what each layer of the trust gate says."""

from fmos_cli.trust_demo.run import run_story

__all__ = ["run_story"]
