"""From data to weights: clips, losses, and one loop for every method."""
