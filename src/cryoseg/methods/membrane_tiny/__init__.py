"""membrane-tiny: the bundled membrane network."""
