"""Small simulated volumes to try the tool on."""
