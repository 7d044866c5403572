"""ProMISe: prompts without a person on a frozen SAM."""
