"""Simulate images and write them with their truth and records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cryoseg.config.batch import ALL
from cryoseg.config.simulate import PhantomConfig, SimulateConfig, SimulatedSeries, SimulateMicrographsConfig
from cryoseg.events import OnEvent, Report, StageProgress, ignore
from cryoseg.io.inputs import InputItem
from cryoseg.io.outputs import make_folder
from cryoseg.pipelines.batches.finished import Done, Job
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.pipelines.batches.workers import run_workers
from cryoseg.simulate import micrographs, phantoms, tomograms

Config = SimulateConfig | SimulateMicrographsConfig | PhantomConfig
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Simulator:
    """Functions of one kind of simulation."""

    command: str
    endings: Callable[[Any], dict[str, str]]
    make: Callable[[Any, int, Mapping[str, Path]], Record]
    columns: Callable[[Record], dict[str, str]]


def _tomogram_columns(record: Record) -> dict[str, str]:
    return {
        "pixel size": f"{record['voxel_size_angstrom']:.2f} A",
        "SNR": f"{record['snr']:.2f}",
        "membrane": f"{100 * record['membrane_fraction']:.1f} %",
        "distractors": f"{100 * record['distractor_fraction']:.1f} %",
        "arrangement": record["specimen"]["arrangement"],
    }


def _micrograph_columns(record: Record) -> dict[str, str]:
    return {
        "pixel size": f"{record['pixel_size_angstrom']:.2f} A",
        "diameter": f"{record['particle_diameter_px']:.0f} px",
        "particles": str(record["particles"]),
        "detectability": f"{record['detectability']:.0f}",
        "finish": record["imaging"]["finish"],
    }


def _phantom_columns(record: Record) -> dict[str, str]:
    return {"particles": str(record["particles"]), "distractors": str(len(record["distractor_centers_zyx"]))}


_SIMULATORS: dict[type, _Simulator] = {
    SimulateConfig: _Simulator(
        command="simulate tomograms",
        endings=tomograms.output_endings,
        make=tomograms.make,
        columns=_tomogram_columns,
    ),
    SimulateMicrographsConfig: _Simulator(
        command="simulate micrographs",
        endings=micrographs.output_endings,
        make=micrographs.make,
        columns=_micrograph_columns,
    ),
    PhantomConfig: _Simulator(
        command="simulate phantoms",
        endings=phantoms.output_endings,
        make=phantoms.make,
        columns=_phantom_columns,
    ),
}


def output_paths(config: Config, folder: Path, stem: str) -> dict[str, Path]:
    """Return the files of one simulated image by kind; the image is the first and the record the last."""
    endings = _SIMULATORS[type(config)].endings(config) | {"record": ".json"}
    return {kind: folder / f"{stem}{ending}" for kind, ending in endings.items()}


def simulate_files(
    config: Config,
    output_dir: Path,
    series: SimulatedSeries = SimulatedSeries(),
    *,
    batch: Batch | None = None,
    on_event: OnEvent = ignore,
) -> Report:
    """Simulate the images of a series that do not exist yet, and return one row per image.

    `config` says what is simulated. Without `batch`, as many processes work as `series` says.
    """
    if batch is None:
        batch = Batch(shard=ALL, devices=("cpu",) * min(series.workers, series.count))
    make_folder(output_dir)
    if batch.devices:
        return run_workers(partial(simulate_files, config, output_dir, series), batch, on_event=on_event)
    simulator = _SIMULATORS[type(config)]
    paths = {
        index: output_paths(config, output_dir, f"{series.prefix}_{index:04d}") for index in series.indices
    }
    indices = {next(iter(one.values())): index for index, one in paths.items()}

    def plan(image: Path) -> Job:
        index = indices[image]
        return Job(
            path=None,
            outputs=paths[index],
            identity={"command": simulator.command, "config": asdict(config), "index": index},
            options={"count": 1, "first": index},
        )

    def work(image: Path, outputs: Mapping[str, Path]) -> Done:
        index = indices[image]
        done = index - series.first
        on_event(
            StageProgress(
                name=str(output_dir), stage="simulating", done=done, total=series.count, unit="images"
            )
        )
        record = simulator.make(config, index, outputs)
        return Done(record=record, columns=simulator.columns(record))

    items = [InputItem(path=image) for image in indices]
    batch = replace(batch, overwrite=series.overwrite)
    return run_batch(items, work, plan=plan, batch=batch, on_event=on_event)
