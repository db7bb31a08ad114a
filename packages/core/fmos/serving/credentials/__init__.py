"""Bearer tokens: who may call over TCP, and for whom."""
