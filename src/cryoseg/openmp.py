"""How long the threads of a network wait for each other before they sleep."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

# Settings of GNU's and LLVM's OpenMP; if the user set one of them, nothing is changed.
CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# Threads that wait at a barrier spin by default, for milliseconds and more, and take the processor
# from others on a busy machine: two runs at once on two cores took twelve times as long as one. Sleeping at
# once (OMP_WAIT_POLICY=PASSIVE) costs 10 to 23 % of the time on a quiet machine. These values
# bridge the gaps between two operations of a network and little more.
SHORT_WAIT = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}  # turns of a loop; milliseconds


def shorten_waits(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's threads spin only briefly, unless the user chose a policy.

    Works only before torch is imported; processes that are started later inherit it.

    Parameters
    ----------
    environment
        Changed in place.
    """
    if not any(name in environment for name in CHOICES):
        environment.update(SHORT_WAIT)
