"""The trust-gate server: may this operation run, and what did the session see."""
