"""Input and output files; the only room that turns axes around."""
