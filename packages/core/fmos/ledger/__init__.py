"""Accounts of tokens, money, calls, time and risk: one engine."""
