"""CET-pick: particles in tomograms from a few labels."""
