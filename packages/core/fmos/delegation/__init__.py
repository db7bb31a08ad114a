"""Attenuated delegation: what an agent hands on to a sub-agent, signed, expiring, never more."""
