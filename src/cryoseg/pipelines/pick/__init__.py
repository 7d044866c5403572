"""Particle picking in files."""
