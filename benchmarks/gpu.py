"""Speed and memory of every method on a GPU, and where one slice spends its time.

    python benchmarks/gpu.py results                     # all measurements, one JSON file for each
    python benchmarks/gpu.py results --only membrane     # one of them
    python benchmarks/gpu.py results --small --device cpu    # rehearsal with tiny sizes on a CPU
    python benchmarks/gpu.py results --table             # Markdown for docs/results/gpu.md

Each file is written as soon as its measurement is finished. After `--minutes` no further one begins.
ETSAM runs with random weights, since the published ones are separate downloads; its speed does not depend
on them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["TQDM_DISABLE"] = "1"  # sam2 draws a progress bar

import mrcfile
import numpy as np
import torch
from sam2.sam2_video_predictor import SAM2VideoPredictor
from typer.testing import CliRunner

from cryoseg import __version__
from cryoseg.cli.app import app
from cryoseg.config import ModelChoice, ModelName, Precision, Preset, SegmentConfig
from cryoseg.config.pick_micrograph import MicrographPickConfig
from cryoseg.core.grids.robust import intensity_map
from cryoseg.methods.cuda_graphs import replay_on_cuda
from cryoseg.methods.device import autocast, describe, peak_device_memory, select_device, select_precision
from cryoseg.methods.etsam.network import CONFIG, WHOLE, NetworkInput, StagePass, grid_mask, resolve
from cryoseg.methods.particles.model import load_particle_model
from cryoseg.methods.sam.sam2_config import build_network, build_predictor
from cryoseg.methods.sam.sam2_volume import OBJECT_ID, REPLAYED, VolumePredictor, normalized
from cryoseg.methods.segmenter import Execution, ModelFiles
from cryoseg.methods.training.loop import TrainingLoop
from cryoseg.methods.weights import require
from cryoseg.pipelines.pick.micrograph import pick_micrograph
from cryoseg.pipelines.segment.model import prepare_run
from cryoseg.pipelines.segment.tomogram import check_tomogram, segment_in_run
from cryoseg.types import Geometry, Micrograph, Tomogram

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLES = REPOSITORY / "src" / "cryoseg" / "samples"
NANO = str(REPOSITORY / "tests" / "conformance" / "sam2_nano.yaml")
WARM_UP = 8  # slices before a profile begins
SECONDS_OF_MICROGRAPHS = 40  # after which the other measurements get their time
SELECT_GPUS = "cryoseg.methods.device.select_gpus"  # replaced for a rehearsal on a CPU
PROFILED = 4  # slices that the image encoder processes together on CUDA


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the measurements.

    Attributes
    ----------
    plane
        (y, x) shape of a slice.
    config
        Configuration of ETSAM's network.
    short, long
        Numbers of slices.
    micrographs, side
        Number of micrographs and their side in pixels.
    steps
        Number of training steps.
    """

    plane: tuple[int, int] = (928, 960)
    config: str = CONFIG
    short: int = 64
    long: int = 500
    micrographs: int = 50
    side: int = 4096
    steps: int = 20


SMALL = Sizes(plane=(96, 96), config=NANO, short=3, long=14, micrographs=2, side=512, steps=3)


@lru_cache(maxsize=1)
def noise(depth: int, plane: tuple[int, int]) -> np.ndarray:
    """Return (z, y, x) int8 noise; the networks work as much on it as on a tomogram."""
    return np.random.default_rng(0).integers(-60, 60, (depth, *plane), dtype=np.int8)


@contextmanager
def measured(device: torch.device, found: dict[str, Any], prefix: str = "") -> Iterator[None]:
    """Store seconds and peak memory of the device under keys with a prefix."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    found[f"{prefix}seconds"] = time.perf_counter() - begun
    found[f"{prefix}device_bytes"] = peak_device_memory(device)


class Etsam:
    """Stage 1 of ETSAM with random weights on noise."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        torch.manual_seed(0)
        self.sizes, self.device = sizes, device
        self.predictor: VolumePredictor = build_predictor(sizes.config).to(device)
        # Random weights find no object, and sam2 then returns one constant instead of logits.
        torch.nn.init.constant_(self.predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
        self.weights = {name: value.clone() for name, value in self.predictor.state_dict().items()}
        replay_on_cuda(self.predictor, *REPLAYED)
        self.settings = resolve(SegmentConfig(preset=Preset.V2), ModelFiles(stages=()))
        self.precision = select_precision(Precision.AUTO, device)

    def slices(self, depth: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield z and the logits of all slices so far, slice by slice, as `cryoseg segment` computes them."""
        data = noise(depth, self.sizes.plane)
        logits = np.empty(data.shape, np.float32)
        assert self.settings.normalize
        stage = StagePass(grey=intensity_map(data, self.settings.normalize), data=data, logits=logits)
        execution = Execution(device=self.device, precision=self.precision)
        for z, _ in enumerate(stage.run(self.predictor, 1, WHOLE, self.settings, execution)):
            yield z, logits

    def ours(self, depth: int) -> np.ndarray:
        """Return the logits of all slices."""
        *_, (_, logits) = self.slices(depth)
        return logits

    def plain(self, depth: int) -> np.ndarray:
        """Return the logits of sam2's own predictor, which gets all slices at once as in ETSAM's code."""
        stock: SAM2VideoPredictor = build_network(self.sizes.config, SAM2VideoPredictor)
        stock.load_state_dict(self.weights)
        stock.to(self.device).eval()
        data, plane = noise(depth, self.sizes.plane), self.sizes.plane
        grey = intensity_map(data, self.settings.normalize)
        network = NetworkInput(lambda z: grey(data[z]), depth, stock.image_size)
        images = normalized(torch.stack([network[z] for z in range(depth)]))
        logits = np.empty(data.shape, np.float32)
        state = self.predictor.init_state_from_slices(images, *plane)
        mask = torch.from_numpy(grid_mask(plane, self.settings.prompt_interval))
        with torch.inference_mode(), autocast(self.device, self.precision):
            stock.add_new_mask(state, 0, OBJECT_ID, mask)
            for z, _, found in stock.propagate_in_video(state):
                logits[z] = found[0, 0].float().cpu().numpy()
        return logits


def measure_etsam(depth: int, sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Compare ETSAM's first stage with sam2's predictor: slices per second, memory and masks."""
    etsam = Etsam(sizes, device)
    etsam.ours(2)
    etsam.plain(2)
    noise(depth, sizes.plane)  # so that its time does not count
    found: dict[str, Any] = {"slices": depth, "plane": sizes.plane, "precision": etsam.precision}
    with measured(device, found):
        ours = etsam.ours(depth)
    with measured(device, found, "plain_"):
        plain = etsam.plain(depth)
    for prefix in ("", "plain_"):
        found[f"{prefix}slices_per_second"] = depth / found[f"{prefix}seconds"]
    middle = np.median(plain[:: max(1, depth // 8)])  # random weights have no meaningful threshold
    one, other = ours > middle, plain > middle
    found["ratio"] = found["plain_seconds"] / found["seconds"]
    found["dice_of_masks"] = float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))
    found["median_logit_difference"] = float(np.median(np.abs(ours - plain)))
    return found


def measure_membrane(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Measure the bundled model on a tomogram, both stages, without reading and writing files."""
    run = prepare_run(SegmentConfig(), ModelChoice(name=ModelName.MEMBRANE_TINY), device=str(device))
    found: dict[str, Any] = {"shape": (sizes.long, *sizes.plane), "precision": run.precision}
    for depth, kept in ((2, {}), (sizes.long, found)):  # the first one warms up
        tomogram = Tomogram(data=noise(depth, sizes.plane), geometry=Geometry(voxel_size=(12.0,) * 3))
        with measured(device, kept):
            segment_in_run(tomogram, run, check_tomogram(tomogram, run))
    return {**found, "slices_per_second": sizes.long / found["seconds"]}


def measure_micrographs(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Measure picking in micrographs that repeat the simulated one, without reading and writing files."""
    model = load_particle_model(require("particle-mixed"), device)
    sample = mrcfile.read(SAMPLES / "particles_0002_micrograph.mrc").squeeze().astype(np.float32)
    repeats = -(-sizes.side // sample.shape[0])
    image = np.tile(sample, (repeats, repeats))[: sizes.side, : sizes.side]
    config = MicrographPickConfig(particle_diameter_angstrom=180.0, pixel_size=3.75)
    pick_micrograph(Micrograph(data=image), model, config)
    found: dict[str, Any] = {"micrographs": sizes.micrographs, "shape": image.shape}
    picks = 0
    with measured(device, found):
        begun = time.monotonic()
        for number in range(sizes.micrographs):
            if time.monotonic() - begun > SECONDS_OF_MICROGRAPHS:
                found["micrographs"] = number
                break
            rolled = np.roll(image, 37 * number, axis=0)
            picks += len(pick_micrograph(Micrograph(data=rolled), model, config).picks)
    return {**found, "picks": picks, "seconds_per_micrograph": found["seconds"] / found["micrographs"]}


def measure_batch(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Measure `cryoseg pick` on a folder with several processes on one GPU, from start to end."""
    processes = min(8, max(2, (os.cpu_count() or 2) // 2))
    sample = mrcfile.read(SAMPLES / "particles_0002_micrograph.mrc").squeeze()
    repeats = -(-sizes.side // sample.shape[0])
    image = np.tile(sample, (repeats, repeats))[: sizes.side, : sizes.side]
    found: dict[str, Any] = {"micrographs": sizes.micrographs, "shape": image.shape, "processes": processes}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(sizes.micrographs):
            with mrcfile.new(folder / f"{number:03d}.mrc", np.roll(image, 37 * number, axis=0)) as file:
                file.voxel_size = 3.75
        names = (str(device),) * processes
        command = ["pick", f"{folder}/*.mrc", "--particle-diameter", "180", "-o", f"{folder}/out", "--quiet"]
        with mock.patch(SELECT_GPUS, return_value=names), measured(device, found):
            CliRunner().invoke(app, [*command, "--gpus", "0"], catch_exceptions=False, standalone_mode=False)
        found["files"] = len(list((folder / "out").glob("*.star")))
    del found["device_bytes"]  # that of this process, which computes nothing
    return {**found, "seconds_per_micrograph": found["seconds"] / sizes.micrographs}


def training_data(folder: Path) -> dict[str, list[str]]:
    """Write the simulated samples as training data; return the arguments of each training."""
    star = (SAMPLES / "particles_0002_particles.star").read_text()
    for name in ("a", "b"):
        for kind in ("tomogram.mrc", "labels.mrc.gz"):
            shutil.copy(SAMPLES / f"sample_0000_{kind}", folder / f"{name}_{kind}")
        shutil.copy(SAMPLES / "particles_0002_micrograph.mrc", folder / f"{name}_micrograph.mrc")
        named = star.replace("particles_0002_micrograph", f"{name}_micrograph")
        (folder / f"{name}_micrograph.star").write_text(named)
    (folder / "balls.csv").write_text("x,y,z\n60,60,20\n120,60,20\n60,120,20\n120,120,20\n")
    pairs = str(folder)
    particles = [f"{folder}/?_micrograph.mrc", "--particle-diameter", "180", "--base", "particle-tiny"]
    for name in ("a", "b"):
        particles += ["--picks", f"{folder}/{name}_micrograph.star"]
    return {
        "membrane": ["membrane", pairs, "--stage", "1"],
        "etsam": ["etsam-stage1", pairs, "--batch", "1"],
        "prompted-sam": ["encoder-prompt", *particles],
        "promise": ["promise", *particles],
        "cet-pick": [
            *("cet-pick", "--tomograms", f"{folder}/a_tomogram.mrc", "--picks", f"{folder}/balls.csv"),
            *("--particle-diameter", "240", "--no-pictures"),
        ],
    }


SMALL_TRAINING = {
    "membrane": ["--crop-size", "64", "--batch", "1", "--clip-length", "2"],
    "etsam": ["--sam2-config", NANO, "--clip-length", "3"],
    "prompted-sam": ["--batch", "1"],
    "promise": ["--batch", "2"],
    "cet-pick": ["--crop", "6x48x48", "--batch", "1"],
}


def measure_training(method: str, sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Measure the steps of `cryoseg train` with its default sizes, without validation."""
    seconds: list[float] = []
    advance = TrainingLoop._advance

    def timed(loop: TrainingLoop, rate: float) -> dict[str, float]:
        begun = time.perf_counter()
        values = advance(loop, rate)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begun)
        return values

    found: dict[str, Any] = {"steps": sizes.steps}
    with tempfile.TemporaryDirectory() as name, mock.patch.object(TrainingLoop, "_advance", timed):
        folder = Path(name)
        command = ["train", *training_data(folder)[method], "-o", str(folder / "run"), "--quiet"]
        command += ["--steps", str(sizes.steps), "--device", str(device), "--max-minutes", "1.5"]
        command += SMALL_TRAINING[method] if sizes is SMALL else []
        with measured(device, found, "whole_"):
            CliRunner().invoke(app, command, catch_exceptions=False, standalone_mode=False)
    rest = seconds[2:] or seconds  # the first steps build caches
    return {**found, "seconds_per_step": statistics.median(rest), "steps_per_second": len(rest) / sum(rest)}


def measure_profile(sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """Profile some slices of ETSAM: operators by their own time, and the share in which a GPU idles."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    slices = Etsam(sizes, device).slices(WARM_UP + PROFILED)
    for _ in range(WARM_UP):
        next(slices)
    begun = time.perf_counter()
    with profile(activities=activities) as profiler:
        for _ in slices:
            pass
    found: dict[str, Any] = {"slices": PROFILED, "seconds": time.perf_counter() - begun}
    kind = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    operators = sorted(profiler.key_averages(), key=lambda one: getattr(one, kind), reverse=True)
    found["operators"] = [
        {"name": one.key, "seconds": getattr(one, kind) * 1e-6, "calls": one.count} for one in operators[:15]
    ]
    if device.type == "cuda":
        spans = [
            (event.time_range.start, event.time_range.end)
            for event in profiler.events()
            if event.device_type == torch.autograd.DeviceType.CUDA
        ]
        found["idle_share"] = idle_share(spans)
    return found


def idle_share(spans: list[tuple[float, float]]) -> float:
    """Return the share of the time from the first begin to the last end in which no span runs."""
    busy, reached = 0.0, -float("inf")
    for begin, end in sorted(spans):
        busy += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    whole = reached - min(begin for begin, _ in spans)
    return 1 - busy / whole


def measurements(sizes: Sizes, device: torch.device) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return all measurements by name, the most important first."""
    return {
        "etsam-short": lambda: measure_etsam(sizes.short, sizes, device),
        "micrographs": lambda: measure_micrographs(sizes, device),
        "micrographs-batch": lambda: measure_batch(sizes, device),
        "membrane": lambda: measure_membrane(sizes, device),
        "profile": lambda: measure_profile(sizes, device),
        "etsam-long": lambda: measure_etsam(sizes.long, sizes, device),
        **{
            f"training-{method}": lambda method=method: measure_training(method, sizes, device)
            for method in SMALL_TRAINING
        },
    }


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what computes."""
    return {
        "device": describe(device),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cryoseg": __version__,
    }


def table(folder: Path) -> str:
    """Return the measurements of a folder as Markdown."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    if not results:
        raise SystemExit(f"{folder}: contains no measurements; run benchmarks/gpu.py {folder} first.")
    machine = next(iter(results.values()))["hardware"]
    lines = [
        f"{machine['device']}, {machine['processors']} processors, torch {machine['torch']}, cryoseg "
        f"{machine['cryoseg']}.",
        "",
        "| measurement | result | peak memory of the device |",
        "|---|---|---|",
    ]
    for name, one in results.items():
        if "error" in one:
            lines.append(f"| {name} | failed: {one['error']} | |")
            continue
        if name.startswith("etsam"):
            text = (
                f"{one['slices']} slices of {' x '.join(map(str, one['plane']))}: "
                f"{one['slices_per_second']:.1f} slices/s, plain sam2 {one['plain_slices_per_second']:.1f} "
                f"(ratio {one['ratio']:.2f}), Dice of the masks {one['dice_of_masks']:.4f}"
            )
        elif name == "membrane":
            text = f"{' x '.join(map(str, one['shape']))}: {one['seconds']:.1f} s"
        elif name.startswith("micrographs"):
            text = f"{one['micrographs']} of {one['shape'][0]} px: {one['seconds_per_micrograph']:.2f} s each"
        elif name == "profile":
            top = ", ".join(operator["name"] for operator in one["operators"][:3])
            idle = f"{one['idle_share']:.0%} idle; " if "idle_share" in one else ""
            text = f"{one['slices']} slices in {one['seconds']:.2f} s; {idle}most time in {top}"
        else:
            text = f"{one['steps_per_second']:.2f} steps/s"
        peak = one.get("device_bytes", one.get("whole_device_bytes"))
        lines.append(f"| {name} | {text} | {f'{peak / 2**30:.1f} GiB' if peak else ''} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the JSON files")
    parser.add_argument("--only", nargs="+", default=[], help="names of measurements")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, for a rehearsal")
    parser.add_argument("--minutes", type=float, default=10.0, help="after these no measurement begins")
    parser.add_argument("--table", action="store_true", help="print the table of finished measurements")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.folder))
        return 0
    begun = time.monotonic()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    device = select_device(arguments.device)
    sizes = SMALL if arguments.small else Sizes()
    failed = 0
    for name, measure in measurements(sizes, device).items():
        if arguments.only and name not in arguments.only:
            continue
        if time.monotonic() - begun > 60 * arguments.minutes:
            print(f"{name}: left out, the time is over", flush=True)
            failed += 1
            continue
        try:
            found = measure()
        except Exception as error:
            # The other measurements still count, and a GPU may not be at hand again.
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
            failed += 1
        found = {"hardware": hardware(device), "small": arguments.small, **found}
        (arguments.folder / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
