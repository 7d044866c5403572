"""`python -m cryoseg` is `cryoseg`."""

from cryoseg.cli.app import main

main()
