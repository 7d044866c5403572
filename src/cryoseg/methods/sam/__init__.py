"""SAM and SAM 2: sizes of networks, slices of volumes, and configurations."""
