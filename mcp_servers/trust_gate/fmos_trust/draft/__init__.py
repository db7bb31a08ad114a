"""Controlled English to rules of a trust policy, and back: no model, one documented grammar."""
