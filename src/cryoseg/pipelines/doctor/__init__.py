"""Checks of the installation and the computer."""
