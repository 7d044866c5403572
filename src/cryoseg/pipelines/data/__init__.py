"""Download and verification of published data and weights."""
