"""Checks of the installation and the machine."""
