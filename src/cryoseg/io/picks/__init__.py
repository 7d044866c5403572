"""Readers and writers of coordinates."""
