"""ProMISe: a frozen SAM that predicts its own prompts."""
