"""Readers and writers of volumes, micrographs and pictures."""
