"""Run two versions of cryoseg on the samples and compare every file that they write, byte by byte.

    python benchmarks/same_results.py OLD NEW

OLD and NEW are checkouts of this repository; both run in this environment, which needs what cryoseg needs.
Records are compared as JSON, with numbers to six digits and without the fields that may differ: seconds,
memory, versions, and the fields in `CHANGED`, which a version changed on purpose. Both versions train on what
OLD simulated. `rounding` marks images whose numbers differ in their last digit: since 0.2, simulations do not
depend on the number of threads. The exit status is 1 if anything else differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mrcfile
import numpy as np
import torch
from safetensors.torch import load_file

# Fields of a record that differ from run to run.
VARIABLE = {"seconds", "peak_memory_bytes", "cryoseg", "python", "torch", "modified_ns", "peak_gpu_bytes"}
# Fields of a record that version 0.2 writes in another form.
CHANGED = {
    *("files", "writing", "options", "command", "reading", "given", "mode0", "software", "outputs", "start"),
    *("score_threshold", "recommended_score_threshold"),
}
# Text files of a training that version 0.2 writes in another form.
CHANGED_FILES = {"command.toml"}
SAMPLES = ("tomogram", "micrograph", "labels", "particles")
COMMANDS = (
    "segment {tomogram} --post-process --store-logits --preview -o segment",
    "segment {tomogram} --model membrane-tiny --step bridges --views forward --views backward -o segment2",
    "postprocess segment/sample_0000_tomogram_membrane_logits.mrc --logit-threshold 0.5 --step thin-noise"
    " -o postprocess",
    "evaluate segmentation segment/sample_0000_tomogram_membrane_mask.mrc {labels} -o evaluation.csv",
    "pick {micrograph} --particle-diameter 180 -f star -f box -f csv --preview -o pick",
    "evaluate picks pick/particles_0002_micrograph_particles.star {particles} --radius 12px -o picks.csv",
    "convert {particles} particles.csv",
    "simulate tomograms -n 3 --shape 16x96x96 --seed 3 -o tomograms",
    "simulate micrographs -n 4 --seed 7 -o micrographs",
    "train finetune ../old/micrographs --steps 2 --batch 1 --standalone -o finetune",
    "train membrane ../old/tomograms -o membrane --steps 2 --batch 1 --crop-size 64 --validate-every 2",
    "view {tomogram} --logits segment/sample_0000_tomogram_membrane_logits.mrc -o view.html",
)


def run_all(checkout: Path, folder: Path) -> list[str]:
    """Run every command with the code of a checkout in a folder; return the commands that failed."""
    variables = dict(os.environ, PYTHONPATH=str(checkout / "src"), OMP_NUM_THREADS="1", COLUMNS="200")
    program = [sys.executable, "-m", "cryoseg"]
    places = {
        what: subprocess.check_output([*program, "sample", what], text=True, env=variables).strip()
        for what in SAMPLES
    }
    # Both versions read the same copies, under the same relative names.
    local = {what: Path(place).name for what, place in places.items()}
    for what, place in places.items():
        shutil.copy2(place, folder / local[what])
    failed = []
    for command in COMMANDS:
        words = command.format(**local).split()
        done = subprocess.run([*program, *words], cwd=folder, env=variables, capture_output=True, text=True)
        if done.returncode:
            failed.append(command)
            print(f"exit {done.returncode}: {command}\n{done.stderr[-800:]}")
    return failed


def comparable(path: Path) -> object:
    """Return the content of a file without what may differ."""
    if path.suffix == ".json":
        return _without(json.loads(path.read_text(encoding="utf-8")), VARIABLE | CHANGED)
    if path.suffix == ".pt":
        return _bytes_of(torch.load(path, weights_only=True))
    if path.suffix == ".safetensors":
        return _bytes_of(load_file(path))
    content = path.read_bytes()
    if path.suffix == ".star":  # the first line tells the time
        return content.partition(b"\n")[2]
    if path.suffix == ".csv" and b"seconds" in content.partition(b"\n")[0]:
        lines = [line.split(",") for line in content.decode().splitlines()]
        column = lines[0].index("seconds")
        return [line[:column] + line[column + 1 :] for line in lines]
    return content


def _bytes_of(value: object) -> object:
    """Replace tensors by their bytes, and leave out the settings of a run."""
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: _bytes_of(part) for key, part in value.items() if key != "fingerprint"}
    return [_bytes_of(part) for part in value] if isinstance(value, list) else value


def is_rounding(old: Path, new: Path) -> bool:
    """Tell whether two images differ by no more than the rounding of their numbers."""
    if old.suffix != ".mrc":
        return False
    a, b = (mrcfile.read(path).astype(np.float64) for path in (old, new))
    # Simulated detectors count in whole numbers, whatever the type.
    step = 1.0 if np.array_equal(a, np.rint(a)) else 1e-5 * max(a.std(), abs(a).max())
    return bool(a.shape == b.shape and np.abs(a - b).max() <= step)


def _without(value: object, names: set[str]) -> object:
    if isinstance(value, dict):
        return {key: _without(part, names) for key, part in value.items() if key not in names}
    if isinstance(value, list):
        return [_without(part, names) for part in value]
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value


def main() -> int:
    """Run both versions and print a line for every file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--keep", type=Path, help="Keep the outputs in this folder.")
    arguments = parser.parse_args()
    room = arguments.keep or Path(tempfile.mkdtemp())
    failed = []
    for name in ("old", "new"):
        (room / name).mkdir(parents=True)
        failed += run_all(getattr(arguments, name).resolve(), room / name)
    files = {
        name: {path.relative_to(room / name) for path in (room / name).rglob("*") if path.is_file()}
        for name in ("old", "new")
    }
    differing = 0
    for path in sorted(files["old"] | files["new"]):
        if (
            path.name in CHANGED_FILES or "stage1_logits" in path.parts
        ):  # a folder named after bytes of a file
            continue
        if path not in files["old"] or path not in files["new"]:
            where = "old" if path in files["old"] else "new"
            print(f"only {where}   {path}")
            continue
        if comparable(room / "old" / path) == comparable(room / "new" / path):
            print(f"same       {path}")
        elif is_rounding(room / "old" / path, room / "new" / path):
            print(f"rounding   {path}")
        else:
            print(f"DIFFERENT  {path}")
            differing += 1
    print(f"{differing} of {len(files['old'] & files['new'])} files differ, {len(failed)} commands failed")
    if not arguments.keep:
        shutil.rmtree(room)
    return bool(differing or failed)


if __name__ == "__main__":
    sys.exit(main())
