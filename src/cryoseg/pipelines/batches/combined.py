"""One file for a whole run, made of the files of its inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cryoseg.io.picks.relion_star import join_stars
from cryoseg.pipelines.batches.claims import claim

_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.2


def write_combined_star(output: Path, finished: Callable[[], Sequence[Path]]) -> None:
    """Join STAR files of picks, if there are two or more.

    Parameters
    ----------
    output
        Replaced if it exists.
    finished
        Names the files that are there now. Of several processes that end at about the same time, the
        last one to ask sees the files of all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        with claim(output) as is_ours:
            if is_ours or time.monotonic() > until:
                files = finished()
                if len(files) > 1:
                    join_stars(files, output, overwrite=True)
                return
        time.sleep(_POLL_SECONDS)
