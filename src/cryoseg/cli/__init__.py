"""The command line: options, help, and nothing that computes."""
