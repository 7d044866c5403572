"""What the trainings of membrane networks share: their data and the logits between the stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.segment import Polarity
from cryoseg.io.outputs import atomic_output, make_folder
from cryoseg.methods.membranes.data import Pair, logits_path
from cryoseg.methods.training.run import Runtime


@dataclass(frozen=True, kw_only=True)
class TrainingPairs:
    """Pairs of tomogram and labels of one training.

    Attributes
    ----------
    training
        Pairs to learn from.
    held_out
        Pairs that choose the best weights and the threshold.
    polarity
        Polarity of the membranes where a pair does not say.
    logits
        Folder of stage-1 logits, for stage 2.
    """

    training: Sequence[Pair]
    held_out: Sequence[Pair]
    polarity: Polarity
    logits: Path | None = None

    def record(self) -> dict[str, Any]:
        """Names and polarity as plain JSON."""
        return {
            "training": [pair.name for pair in self.training],
            "validation": [pair.name for pair in self.held_out],
            "polarity": str(self.polarity),
        }

    def stage1_logits(self, pair: Pair) -> Path:
        """File of the stage-1 logits of a pair."""
        assert self.logits is not None
        return logits_path(self.logits, pair)


def write_stage1_logits(
    data: TrainingPairs, runtime: Runtime, build: Callable[[], Callable[[Pair], NDArray[np.float32]]]
) -> None:
    """Write the stage-1 logits of every pair as `.npy`, float16; files that exist are kept.

    Several processes share the volumes.

    Parameters
    ----------
    data
        Pairs, and the folder for the logits.
    runtime
        Processes and receiver of events.
    build
        Gives the function from a pair to its (z, y, x) logits; called only if logits are missing.
    """
    assert data.logits is not None
    make_folder(data.logits)
    files = {data.stage1_logits(pair): pair for pair in (*data.training, *data.held_out)}
    missing = [(file, pair) for file, pair in files.items() if not file.exists()]
    mine = missing[runtime.processes.rank :: runtime.processes.count]
    if mine:
        logits_of = build()
        for file, pair in runtime.progress(mine, "stage-1 logits", "volumes"):
            logits = logits_of(pair).astype(np.float16)
            with atomic_output(file, overwrite=True) as temporary, temporary.open("wb") as stream:
                np.save(stream, logits)
    runtime.processes.wait()
