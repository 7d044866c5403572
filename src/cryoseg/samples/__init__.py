"""Small simulated volumes and images to try the tool on."""
