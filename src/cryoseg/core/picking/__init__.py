"""From logits and score maps to picks."""
