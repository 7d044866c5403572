"""ETSAM: membranes in tomograms with two SAM 2 stages."""
