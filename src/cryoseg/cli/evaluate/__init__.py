"""The commands of `cryoseg evaluate`."""
