"""Verifiers: plug-ins that check claims, metered in the ledger, chosen by type and risk."""
