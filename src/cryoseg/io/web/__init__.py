"""Downloads and the protocols of public archives."""
