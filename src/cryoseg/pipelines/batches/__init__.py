"""Batches that can be left alone: one implementation for every command that works file by file."""
