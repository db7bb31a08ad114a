"""Stands in for detect-secrets."""
