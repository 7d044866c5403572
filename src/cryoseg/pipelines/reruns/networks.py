"""Runs again of the commands that compute with a network: `segment`, `segment-image` and `pick`."""

from __future__ import annotations

from pathlib import Path

from cryoseg.config import ModelChoice, ModelName, SegmentConfig, SegmentOutputs
from cryoseg.config.pick import PickOutputs, TomogramPickConfig
from cryoseg.config.pick_micrograph import MicrographPickConfig, MicrographPickOptions
from cryoseg.config.pictures import Smoothing
from cryoseg.config.prompt_sam import NativeMode
from cryoseg.config.restore import restore
from cryoseg.errors import WeightsError
from cryoseg.events import OnEvent, Report
from cryoseg.io.picks.relion_frame import RelionFrame
from cryoseg.io.provenance import hash_file
from cryoseg.methods.device import select_device, select_precision
from cryoseg.methods.particles import model as particle_model
from cryoseg.methods.particles.model import ParticleModel
from cryoseg.pipelines.reruns.findings import Findings, Run


def segment(found: Findings, source: Path) -> Run:
    """A run of `cryoseg segment` on one tomogram."""
    from cryoseg.pipelines.segment.files import segment_files
    from cryoseg.pipelines.segment.model import resolve_model

    choice = _segment_choice(found)
    stages = resolve_model(choice).files.stages
    found.compare_weights({path.name: (path, hash_file(path)) for path in stages})
    config, precision = found.settings(SegmentConfig), found.precision()
    found.writing(SegmentOutputs)

    def run(output_dir: Path, overwrite: bool, on_event: OnEvent) -> Report:
        return segment_files(
            [source],
            output_dir,
            config,
            choice=choice,
            outputs=found.writing(SegmentOutputs, overwrite=overwrite),
            device=found.device,
            precision=precision,
            on_event=on_event,
        )

    return run


def _segment_choice(found: Findings) -> ModelChoice:
    name = found.part("model", "name")
    if name not in set(ModelName):
        raise WeightsError(f"{found.path}: its model, {name}, is not known here.")
    folder, given = found.elsewhere.checkpoints_dir, found.elsewhere.model
    files = [given] if given is not None else [Path(one) for one in found.part("files", "model") or []]
    sam2_config = found.part("model", "sam2_config")
    if not files or (folder is not None and given is None) or not all(map(Path.is_file, files)):
        # Not where they were: the known weights of that name, from wherever they are installed.
        return ModelChoice(name=ModelName(name), checkpoints_dir=folder, sam2_config=sam2_config)
    if len(files) == 1:
        return ModelChoice(model_file=files[0])
    return ModelChoice(stage1_checkpoint=files[0], stage2_checkpoint=files[1], sam2_config=sam2_config)


def pick(found: Findings, source: Path) -> Run:
    """A run of `cryoseg pick` on one image of either kind."""
    is_flat = found.part("input", "shape_yx") is not None
    return _pick_micrograph(found, source) if is_flat else _pick_tomogram(found, source)


def _pick_micrograph(found: Findings, source: Path) -> Run:
    from cryoseg.pipelines.pick.micrograph_files import pick_micrograph_files

    config = found.settings(MicrographPickConfig)
    model = _particle_model(found, mode=config.mode)
    found.writing(MicrographPickOptions)

    def run(output_dir: Path, overwrite: bool, on_event: OnEvent) -> Report:
        outputs = found.writing(MicrographPickOptions, overwrite=overwrite, combined=False)
        return pick_micrograph_files([source], output_dir, model, config, outputs=outputs, on_event=on_event)

    return run


def _particle_model(
    found: Findings, *, base: Path | None = None, mode: NativeMode = NativeMode.GRID
) -> ParticleModel:
    place = found.model_file() or found.part("model", "name")
    if place is None:
        raise WeightsError(f"{found.path}: does not name its model. Pass --model.")
    device = select_device(found.device)
    model = particle_model.load_particle_model(
        str(place),
        device,
        precision=select_precision(found.precision(), device),
        base=base,
        mode=mode,
        checkpoints_dir=found.elsewhere.checkpoints_dir,
    )
    found.compare_weights({name: (Path(name), digest) for name, digest in model.hashes.items()})
    return model


def _pick_tomogram(found: Findings, source: Path) -> Run:
    from cryoseg.pipelines.pick.tomogram_files import pick_files

    model = found.model_file()
    if model is None:
        raise WeightsError(f"{found.path}: the model of this run is not where it was. Pass --model FILE.")
    found.compare_hash(model, found.part("model", "sha256"))
    mask, frame = found.second_input("mask"), found.part("relion")
    relion = {"": restore(RelionFrame, frame, source=f"{found.path}: relion")} if frame else None
    config = found.settings(TomogramPickConfig)
    found.writing(PickOutputs)

    def run(output_dir: Path, overwrite: bool, on_event: OnEvent) -> Report:
        return pick_files(
            [source],
            output_dir,
            model,
            config,
            outputs=found.writing(PickOutputs, overwrite=overwrite, combined=False),
            relion=relion,
            mask=mask,
            pixel_size=found.part("reading", "pixel_size"),
            device=found.device,
            on_event=on_event,
        )

    return run


def segment_image(found: Findings, source: Path) -> Run:
    """A run of `cryoseg segment-image` on one picture."""
    from cryoseg.pipelines.segment.image import segment_images

    base = found.part("files", "base")
    model = _particle_model(found, base=None if base is None else Path(base))
    smoothing = found.settings(Smoothing, "smoothing")

    def run(output_dir: Path, overwrite: bool, on_event: OnEvent) -> Report:
        return segment_images(
            [source],
            output_dir,
            model,
            smoothing=smoothing,
            logit_threshold=found.part("logit_threshold"),
            crop_black=found.part("crop_black"),
            overlay="overlay" in (found.part("outputs") or {}),
            base=None if base is None else Path(base),
            overwrite=overwrite,
            on_event=on_event,
        )

    return run
