"""The commands of `cryoseg train`."""
