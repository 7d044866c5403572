"""Runs again from their records: what each command that leaves one needs for it."""
