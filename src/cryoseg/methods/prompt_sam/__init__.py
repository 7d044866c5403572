"""SAM adapted by head, prefix or encoder prompts."""
