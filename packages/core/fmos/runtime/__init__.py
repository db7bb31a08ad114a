"""The running kernel: an opened home and what lives in it."""
