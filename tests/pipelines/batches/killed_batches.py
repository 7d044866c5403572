"""Run a batch, kill it at random moments with SIGKILL, run it again, and leave the result to be compared.

`python killed_batches.py FOLDER INPUTS KILLS SEED [MODEL]` makes the inputs and fills FOLDER/quiet
(an undisturbed run) and FOLDER/killed. Processes are forked, since importing takes longer than the work.
It writes one line of JSON with figures. With a model file the batch is `cryoseg segment`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cryoseg.events import Report, ignore
from cryoseg.io.images.volumes import made_by, read_tomogram, write_logits, write_mask
from cryoseg.io.inputs import resolve_inputs
from cryoseg.pipelines.batches.finished import Done, Job
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.types import Geometry

SHAPE = (4, 32, 40)


def make_inputs(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        data = np.random.default_rng(number).normal(0, 1, SHAPE).astype(np.float32)
        write_logits(folder / f"ts_{number:02}.mrc", data, Geometry(voxel_size=(12.0,) * 3), label="input")


def plain(inputs: Path, out: Path) -> Report:
    """A batch without a network: three files per input, written as `cryoseg segment` writes them."""
    out.mkdir(exist_ok=True)

    def plan(path: Path) -> Job:
        names = {"mask": "mask.mrc", "logits": "logits.mrc"}
        outputs = {kind: out / f"{path.stem}_membrane_{name}" for kind, name in names.items()}
        outputs["record"] = out / f"{path.stem}_membrane.json"
        return Job(path=path, outputs=outputs, identity={"command": "segment", "settings": {"a": 1}})

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        tomogram = read_tomogram(path)
        label = made_by("segment")
        write_mask(outputs["mask"], tomogram.data > 0, tomogram.geometry, label=label)
        write_logits(outputs["logits"], tomogram.data * 2, tomogram.geometry, label=label)
        return Done()

    return run_batch(resolve_inputs([inputs]), work, plan=plan, on_event=ignore)


def segmenter(model: Path) -> Callable[[Path, Path], Report]:
    """`cryoseg segment` with a model file, post-processing, logits and pictures."""
    import torch

    from cryoseg.config import (
        ModelChoice,
        PostprocessStep,
        SegmentConfig,
        SegmentOutputs,
        SegmentRequest,
    )
    from cryoseg.pipelines.segment.files import segment_files

    # The first parallel region would start threads that a forked child does not have.
    torch.set_num_threads(1)
    config = SegmentConfig(postprocess=(PostprocessStep.THIN_NOISE,), min_slices=2)
    outputs = SegmentOutputs(store_logits=True, preview=True)

    def segment(inputs: Path, out: Path) -> Report:
        request = SegmentRequest(config=config, choice=ModelChoice(model_file=model), outputs=outputs)
        return segment_files([inputs], out, request, batch=Batch(device="cpu"))

    return segment


def start(run: Callable[[Path, Path], Report], inputs: Path, out: Path) -> int:
    """A child that does the batch; gives its process id."""
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        report = run(inputs, out)
        os._exit(report.exit_status)
    return pid


def main(folder: Path, count: int, kills: int, seed: int, model: Path | None) -> None:
    """Make everything; see the module."""
    inputs, quiet, killed = folder / "inputs", folder / "quiet", folder / "killed"
    make_inputs(inputs, count)
    run = plain if model is None else segmenter(model)
    begun = time.monotonic()
    _, status = os.waitpid(start(run, inputs, quiet), 0)
    seconds = time.monotonic() - begun
    assert os.waitstatus_to_exitcode(status) == 0
    moments = random.Random(seed)
    told = {"kills": 0, "left_half_written": 0, "stale_locks": 0, "finished_at_kill": []}
    while told["kills"] < kills:
        # Every third time two processes share the folder, and one of them is killed.
        both = [start(run, inputs, killed) for _ in range(2 if told["kills"] % 3 == 2 else 1)]
        time.sleep(moments.uniform(0, 1.5 * seconds / kills))
        done = len(list(killed.glob("*.json")))
        if done == count:
            # Nothing would be left to interrupt: begin again with some of the inputs.
            for record in sorted(killed.glob("*.json"))[:: moments.randint(1, 3)]:
                record.unlink()
        os.kill(both[0], signal.SIGKILL)
        _, status = os.waitpid(both[0], 0)
        for other in both[1:]:
            os.waitpid(other, 0)
        if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
            told["kills"] += 1
            told["finished_at_kill"].append(done)
            hidden = [path.name for path in killed.glob(".cryoseg-*")]
            told["stale_locks"] += any("-lock-" in name for name in hidden)
            told["left_half_written"] += any("-lock-" not in name for name in hidden)
    _, status = os.waitpid(start(run, inputs, killed), 0)
    told |= {"exit_status": os.waitstatus_to_exitcode(status), "quiet_seconds": round(seconds, 2)}
    told["seconds"] = round(time.monotonic() - begun, 2)
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]), Path(sys.argv[5]) if sys.argv[5:] else None)
