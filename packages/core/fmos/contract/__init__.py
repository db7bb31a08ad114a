"""Agent Contracts: parsed, validated, found by agent."""
