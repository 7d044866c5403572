"""Binary masks: thresholds, components and post-processing."""
