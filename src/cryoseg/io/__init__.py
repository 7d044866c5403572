"""Files in and out; the only room that turns axes around."""
