"""Jobs of RELION's window External: the files that tell RELION how a job ended and what it wrote.

RELION waits for one of three files, `RELION_JOB_EXIT_SUCCESS`, `_FAILURE` and `_ABORTED`, in the folder of
the job. The user aborts a job by `RELION_JOB_ABORT_NOW`. `RELION_OUTPUT_NODES.star` lists the outputs that
later jobs can take: with numbers in RELION 3.1, and with labels since RELION 4, of which RELION 5 has others.

Sources: 3dem/relion@0d19adf07bfe23f22f59957b53a8e467bd79aeea, src/pipeline_control.cpp (marks);
3dem/relion@2dffb8415a7e09f14532668b06e353fad1c46b2a, src/pipeliner.cpp, `getOutputNodesFromStarFile`;
3dem/relion@002151f814746485255e7fd083a33615edfcde34, src/pipeline_jobs.h (numbers);
3dem/relion@ae114d897d25c9a115f86e73c49df82db9ea5db0, src/pipeline_jobs.h (labels of RELION 4);
amineuron/relion@6ddaaf7c34723b459709755a6f997907a8b8cd7f, src/pipeline_jobs.h (labels of RELION 5, a fork).
The labels of coordinates and optimisation sets in files that RELION 5 wrote agree with the fork:
Conecsion/sppractice@4e782492c735bfb14a8a17c443632449efc761eb, AutoPick/job008/job_pipeline.star;
hanjinliu/himena-relion@fe6f3c772a504058e2a1d8d01033edc1132d67de, tests/job_pipelines/refine3d.star.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cryoseg.events import Report, Status
from cryoseg.io.outputs import atomic_text, make_folder
from cryoseg.io.picks.relion_index import AUTOPICK, RELION_PARTICLES
from cryoseg.io.picks.star import write_table
from cryoseg.pipelines.batches.interrupts import interruptible

SUCCESS, FAILURE, ABORTED = (f"RELION_JOB_EXIT_{word}" for word in ("SUCCESS", "FAILURE", "ABORTED"))
ABORT_NOW = "RELION_JOB_ABORT_NOW"
OUTPUT_NODES = "RELION_OUTPUT_NODES.star"
OPTIMISATION_SET = "optimisation_set.star"
# RELION 3.1 takes folder and suffix of the coordinate files from the name of this file.
COORDS_SUFFIX = f"coords_suffix_{AUTOPICK}"
_POLL_SECONDS = 1.0
_SIGNALLED = 128  # exit status of a process that a signal ended, less the signal


class NodeKind(Enum):
    """What an output is, as RELION 3.1, 4 and 5 call it; None where it cannot be the input of a job."""

    COORDINATES = (
        2,
        "MicrographsCoords.star.relion.autopick",
        "MicrographCoordsGroup.star.relion.autopick",
    )
    MASK = 7, "Mask3D.mrc.relion", "Mask3D.mrc.relion"
    PARTICLES = None, "Particles.star.relion.tomo", "ParticleGroupMetadata.star.relion.tomo.import"
    OPTIMISATION_SET = (
        None,
        "ProcessData.star.relion.tomo.optimisation_set",
        "TomoOptimisationSet.star.relion",
    )


@dataclass(frozen=True)
class Node:
    """An output that later jobs can take as input; `path` is relative to the project."""

    path: Path
    kind: NodeKind


def run_job(folder: Path, work: Callable[[], int], nodes: Callable[[], Sequence[Node]]) -> int:
    """Do the work of a job of RELION, leave the files that RELION waits for, and return the exit status.

    `folder` is the folder of the job, relative to the project, which is the current folder. `work` returns
    the exit status, and `nodes` the outputs; it is called unless the work was interrupted.
    """
    make_folder(folder)
    for mark in (SUCCESS, FAILURE, ABORTED):
        (folder / mark).unlink(missing_ok=True)
    ended = threading.Event()
    threading.Thread(target=_interrupt_on_abort, args=(folder, ended), daemon=True).start()
    mark = FAILURE
    try:
        with interruptible():
            status = work()
        if status > _SIGNALLED:
            mark = ABORTED
        else:
            _write_nodes(folder, nodes())
            mark = FAILURE if status else SUCCESS
        return status
    except KeyboardInterrupt:
        mark = ABORTED
        raise
    finally:
        ended.set()
        (folder / ABORT_NOW).unlink(missing_ok=True)
        (folder / mark).touch()


def _interrupt_on_abort(folder: Path, ended: threading.Event) -> None:
    """Interrupt this process as soon as RELION asks for an abort."""
    while not ended.wait(_POLL_SECONDS):
        if (folder / ABORT_NOW).exists():
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _write_nodes(folder: Path, nodes: Sequence[Node]) -> None:
    release = _release(folder)
    column = "rlnPipeLineNodeType" if release == 3 else "rlnPipeLineNodeTypeLabel"
    rows = [(str(node.path), kind) for node in nodes if (kind := node.kind.value[release - 3]) is not None]
    if rows:
        names, kinds = zip(*rows, strict=True)
        write_table(folder / OUTPUT_NODES, "output_nodes", {"rlnPipeLineNodeName": names, column: kinds})


def _release(folder: Path) -> int:
    """Return the release of RELION that made the job: 3, 4 or 5, which is taken outside of RELION too."""
    job = folder / "job.star"
    if not job.is_file():
        return 5
    text = job.read_text(encoding="utf-8", errors="replace")
    if "_rlnJobTypeLabel" not in text:
        return 3
    return 5 if re.search(r"^# version 5", text, re.M) else 4


def pick_nodes(folder: Path, source: Path) -> list[Node]:
    """Return the outputs of a job that picked, and write the files that name its inputs.

    `source` is the STAR file of the micrographs or tomograms.
    """
    nodes = []
    if (folder / AUTOPICK).exists():
        name = AUTOPICK
        if _release(folder) == 3:
            name = COORDS_SUFFIX
            with atomic_text(folder / name, overwrite=True) as stream:
                stream.write(f"{source}\n")
        nodes.append(Node(folder / name, NodeKind.COORDINATES))
    if (particles := folder / RELION_PARTICLES).exists():
        table = {"rlnTomoParticlesFile": [str(particles)], "rlnTomoTomogramsFile": [str(source)]}
        chosen = folder / OPTIMISATION_SET
        write_table(chosen, "optimisation_set", table)
        nodes += [Node(particles, NodeKind.PARTICLES), Node(chosen, NodeKind.OPTIMISATION_SET)]
    return nodes


def mask_nodes(report: Report) -> list[Node]:
    """Return the masks that a job of `segment` has written or kept."""
    finished = [row for row in report.rows if row.status in (Status.DONE, Status.SKIPPED)]
    paths = [path for row in finished for path in row.outputs if path.name.endswith("_mask.mrc")]
    return [Node(path, NodeKind.MASK) for path in paths]
