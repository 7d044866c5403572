"""Runs again of the commands that need no network: `postprocess`, `evaluate segmentation`, `simulate`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cryoseg.config import EvaluateConfig
from cryoseg.config.batch import ALL
from cryoseg.config.postprocess import PostprocessConfig
from cryoseg.config.simulate import SimulateConfig
from cryoseg.config.simulate_micrographs import SimulateMicrographsConfig
from cryoseg.config.simulate_phantoms import PhantomConfig
from cryoseg.errors import InputError
from cryoseg.events import OnEvent, Report, Row, Status
from cryoseg.io.outputs import make_folder
from cryoseg.pipelines.batches.run import Batch
from cryoseg.pipelines.reruns.findings import Findings, Run
from cryoseg.simulate import micrographs, phantoms, tomograms
from cryoseg.simulate.records import Config, finished_record


def postprocess(found: Findings, source: Path) -> Run:
    """A run of `cryoseg postprocess` on one volume."""
    from cryoseg.pipelines.segment.postprocess import postprocess_files

    config = found.settings(PostprocessConfig)

    def run(output_dir: Path, overwrite: bool, on_event: OnEvent) -> Report:
        return postprocess_files([source], output_dir, config, overwrite=overwrite, on_event=on_event)

    return run


def evaluate(found: Findings, source: Path) -> Run:
    """The score of one pair, as `cryoseg evaluate segmentation --scores` keeps it."""
    from cryoseg.pipelines.evaluate.pairs import Pair
    from cryoseg.pipelines.evaluate.segmentations import score_pairs

    truth = found.second_input("truth")
    if truth is None:
        raise InputError(f"{found.path}: does not name its truth. Run `cryoseg evaluate segmentation` again.")
    pair = Pair(name=str(found.part("name")), pred=source, truth=truth, region=found.second_input("region"))
    config = found.settings(EvaluateConfig)

    def run(output_dir: Path, overwrite: bool, on_event: OnEvent) -> Report:
        make_folder(output_dir)
        return score_pairs(
            [(str(found.part("method")), pair)],
            config,
            pixel_size=found.part("reading", "pixel_size"),
            scores_dir=output_dir,
            batch=Batch(shard=ALL),
            overwrite=overwrite,
            on_event=on_event,
        ).report

    return run


def simulate_tomogram(found: Findings) -> Run:
    """One volume of `cryoseg simulate tomograms`."""
    config, index, prefix = found.settings(SimulateConfig, "config"), _index(found), _prefix(found)

    def run(output_dir: Path, overwrite: bool, on_event: OnEvent) -> Report:
        make_folder(output_dir)
        paths = tomograms.output_paths(output_dir, index, prefix=prefix)
        return _made(
            config,
            index,
            paths,
            lambda: tomograms.make((config, index, paths)),
            overwrite=overwrite,
            on_event=on_event,
        )

    return run


def simulate_micrograph(found: Findings) -> Run:
    """One image of `cryoseg simulate micrographs`."""
    config, index, prefix = found.settings(SimulateMicrographsConfig, "config"), _index(found), _prefix(found)

    def run(output_dir: Path, overwrite: bool, on_event: OnEvent) -> Report:
        make_folder(output_dir)
        paths = micrographs.output_paths(output_dir, index, prefix=prefix)
        return _made(
            config,
            index,
            paths.all,
            lambda: micrographs.make((config, index, paths)),
            overwrite=overwrite,
            on_event=on_event,
        )

    return run


def simulate_phantom(found: Findings) -> Run:
    """One phantom of `cryoseg simulate phantoms`."""
    config, index, prefix = found.settings(PhantomConfig, "config"), _index(found), _prefix(found)

    def run(output_dir: Path, overwrite: bool, on_event: OnEvent) -> Report:
        make_folder(output_dir)
        paths = phantoms.output_paths(config, output_dir, index, prefix=prefix)
        return _made(
            config,
            index,
            paths,
            lambda: phantoms.make((config, index, paths)),
            overwrite=overwrite,
            on_event=on_event,
        )

    return run


def _index(found: Findings) -> int:
    index = found.part("index")
    if not isinstance(index, int):
        raise InputError(f"{found.path}: does not tell its number. Run `cryoseg simulate` again.")
    return index


def _prefix(found: Findings) -> str:
    """The first part of the file names, before the number that they end in."""
    return found.path.stem.rpartition("_")[0] or found.path.stem


def _made(
    config: Config,
    index: int,
    paths: tuple[Path, ...],
    make: Callable[[], object],
    *,
    overwrite: bool,
    on_event: OnEvent,
) -> Report:
    """Make one set of files, the last of which is the record, unless it is there."""
    begun = time.monotonic()
    record = paths[-1]
    is_there = not overwrite and finished_record(config, index, paths, record) is not None
    if not is_there:
        make()
    row = Row(
        name=paths[0].name,
        status=Status.SKIPPED if is_there else Status.DONE,
        seconds=time.monotonic() - begun,
        outputs=paths,
        message="finished outputs are kept; --overwrite replaces them" if is_there else "",
        path=paths[0],
    )
    on_event(row)
    return Report(rows=[row])
