"""The commands of `cryoseg simulate`."""
