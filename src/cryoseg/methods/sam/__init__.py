"""What SAM and SAM 2 need from cryoseg: geometry, volumes and configuration."""
