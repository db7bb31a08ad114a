"""Look-ahead (SIELA): finds before a call what its tool would refuse, and says how to repair it."""
