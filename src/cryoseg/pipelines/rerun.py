"""`cryoseg rerun`: a run of `segment` or `pick` again, from the record that it left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cryoseg import __version__
from cryoseg.config import (
    Mode0,
    ModelChoice,
    ModelName,
    Naming,
    Precision,
    SegmentConfig,
    SegmentOutputs,
)
from cryoseg.config.pick import PickFormat, TomogramPickConfig
from cryoseg.config.pick_micrograph import MicrographPickConfig, MicrographPickOptions
from cryoseg.config.restore import missing_settings, restore
from cryoseg.errors import CryosegError, DeviceError, InputError, WeightsError
from cryoseg.io.provenance import hash_file, read_provenance
from cryoseg.io.relion_frame import RelionFrame
from cryoseg.io.volumes import is_volume
from cryoseg.models.device import describe, select_device, select_precision
from cryoseg.pipelines.events import OnEvent, Report

COMMANDS = ("segment", "pick")
_SHOWN = 12  # first digits of a hash
Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Where things lie now, if not where the record says.

    Attributes
    ----------
    input
        The input.
    model
        A model file.
    checkpoints_dir
        Where known weights are looked for first.
    """

    input: Path | None = None
    model: Path | None = None
    checkpoints_dir: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """A run that is ready to be repeated.

    Attributes
    ----------
    record
        The file that tells of the first run.
    input
        Where its input lies.
    differences
        What is not as it was: input, weights, settings. A run with any is no repetition.
    notes
        What is different and need not change the result: versions, the device.
    """

    record: Path
    input: Path
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    _run: Callable[[Path, bool, OnEvent], Report]
    _first: Mapping[str, Any]

    def __call__(self, output_dir: Path, *, overwrite: bool = False, on_event: OnEvent) -> Report:
        """Do it.

        Parameters
        ----------
        output_dir
            Made if missing.
        overwrite
            Replace finished outputs.
        on_event
            Told everything.
        """
        return self._run(output_dir, overwrite, on_event)

    def compare(self, second: Path) -> str:
        """One sentence that holds the figures of two records against each other."""
        again = read_provenance(second)
        for key, unit in (("fraction_marked", "of the voxels marked"), ("picks", "picks")):
            if key in self._first and key in again:
                before, now = self._first[key], again[key]
                if before == now:
                    return f"{second.name}: {_figure(now)} {unit}, as before."
                return f"{second.name}: {_figure(now)} {unit}; the record had {_figure(before)}."
        return f"{second.name}: has no figure to compare."


@dataclass
class _Findings:
    """What was noticed on the way."""

    path: Path
    record: Mapping[str, Any]
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def part(self, *keys: str) -> Any:
        """A value inside the record; None where it has none."""
        value: Any = self.record
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def compare_hash(self, what: Path, recorded: str | None) -> None:
        """Note a file whose content is not the recorded one."""
        now = hash_file(what)
        if recorded is None:
            self.differences.append(f"{what}: the record has no hash to compare with")
        elif now != recorded:
            self.differences.append(
                f"{what}: is another file (SHA-256 {now[:_SHOWN]}..., recorded {recorded[:_SHOWN]}...)"
            )

    def settings(self, kind: type[Settings]) -> Settings:
        """The recorded settings."""
        values = self.part("settings") or {}
        self.differences.extend(
            f"{name}: the record does not tell this setting, so its default is taken"
            for name in missing_settings(kind, values)
        )
        return restore(kind, values, source=f"{self.path}: settings")


def plan_rerun(record: Path, *, device: str = "auto", elsewhere: Elsewhere = Elsewhere()) -> Rerun:
    """Read a record and find what its run needs; nothing is computed yet.

    Parameters
    ----------
    record
        The .json beside an output of `cryoseg segment` or `cryoseg pick`.
    device
        Where to compute.
    elsewhere
        Where input and weights lie now.

    Raises
    ------
    CryosegError
        If the file is no such record, or input or weights are missing.
    """
    found = _Findings(path=record, record=read_provenance(record))
    command = found.part("command")
    if command not in COMMANDS or not isinstance(found.part("settings"), Mapping):
        made = f"was written by `cryoseg {command}`" if command else "is no record of a run"
        raise InputError(f"{record}: {made}; rerun repeats {' and '.join(COMMANDS)}. Give one of theirs.")
    source = _find(found, found.part("files", "input"), found.part("input", "name"), elsewhere.input)
    found.compare_hash(source, found.part("input", "sha256"))
    prepare = _segment if command == "segment" else _pick
    run = prepare(found, source, device, elsewhere)
    for what, now in (("cryoseg", __version__), ("device", describe(select_device(device)))):
        before = found.part(what)
        if before is not None and before != now:
            found.notes.append(f"{what}: {now}; the record has {before}")
    return Rerun(
        record=record,
        input=source,
        differences=tuple(found.differences),
        notes=tuple(found.notes),
        _run=run,
        _first=found.record,
    )


def _find(found: _Findings, recorded: str | None, name: str | None, given: Path | None) -> Path:
    """The input: as given, where it was, or beside the record."""
    if given is not None:
        if not is_volume(given):
            raise InputError(f"--input {given}: no such file.")
        return given
    places = [Path(recorded)] if recorded else []
    places += [found.path.parent / name] if name else []
    for place in places:
        if is_volume(place):
            return place
    looked = " or ".join(map(str, places)) or "the record names none"
    raise InputError(f"{found.path}: the input of this run is gone ({looked}). Pass --input FILE.")


def _precision(found: _Findings, device: str) -> Precision:
    recorded = found.part("precision")
    if recorded not in set(Precision):
        return Precision.AUTO
    try:
        return select_precision(Precision(recorded), select_device(device))
    except DeviceError:
        found.notes.append(f"precision: not {recorded}, which this device does not offer")
        return Precision.AUTO


def _segment(
    found: _Findings, source: Path, device: str, elsewhere: Elsewhere
) -> Callable[[Path, bool, OnEvent], Report]:
    from cryoseg.pipelines.segment import segment_files
    from cryoseg.pipelines.segment_model import resolve_model

    choice = _segment_choice(found, elsewhere)
    stages = resolve_model(choice).files.stages
    hashes = list((found.part("model", "sha256") or {}).items())
    _compare_weights(found, {path.name: (path, hash_file(path)) for path in stages}, dict(hashes))
    written = found.part("outputs") or {}
    is_etsam_named = str(written.get("mask", "")).endswith("_predicted_mask.mrc")
    outputs = partial(
        SegmentOutputs,
        store_logits="logits" in written,
        preview="preview" in written,
        naming=Naming.ETSAM if is_etsam_named else Naming.CRYOSEG,
        mode0=Mode0(found.part("reading", "mode0") or Mode0.AUTO),
    )
    config, precision = found.settings(SegmentConfig), _precision(found, device)

    def run(output_dir: Path, overwrite: bool, on_event: OnEvent) -> Report:
        return segment_files(
            [source],
            output_dir,
            config,
            choice=choice,
            outputs=outputs(overwrite=overwrite),
            device=device,
            precision=precision,
            on_event=on_event,
        )

    return run


def _segment_choice(found: _Findings, elsewhere: Elsewhere) -> ModelChoice:
    name = found.part("model", "name")
    if name not in set(ModelName):
        raise WeightsError(f"{found.path}: its model, {name}, is not known here.")
    folder = elsewhere.checkpoints_dir
    files = [Path(one) for one in found.part("files", "model") or []]
    if elsewhere.model is not None:
        files = [elsewhere.model]
    if not files or (folder is not None and elsewhere.model is None) or not all(map(Path.is_file, files)):
        # Not where they were: the known weights of that name, from wherever they are installed.
        return ModelChoice(
            name=ModelName(name), checkpoints_dir=folder, sam2_config=found.part("model", "sam2_config")
        )
    if len(files) == 1:
        return ModelChoice(model_file=files[0])
    return ModelChoice(
        stage1_checkpoint=files[0],
        stage2_checkpoint=files[1],
        sam2_config=found.part("model", "sam2_config"),
    )


def _compare_weights(
    found: _Findings, now: Mapping[str, tuple[Path, str]], recorded: Mapping[str, str]
) -> None:
    """Weights are the same if their hashes are, whatever the files are called."""
    for name, digest in recorded.items():
        if digest in {one for _, one in now.values()}:
            continue
        here = now.get(name) or next(iter(now.values()), None)
        told = f"{here[0]} has SHA-256 {here[1][:_SHOWN]}..." if here else "there are none here"
        found.differences.append(f"weights: the record has {name} {digest[:_SHOWN]}..., {told}")
    if not recorded:
        found.differences.append("weights: the record has no hash to compare with")


def _pick(
    found: _Findings, source: Path, device: str, elsewhere: Elsewhere
) -> Callable[[Path, bool, OnEvent], Report]:
    if found.part("input", "shape_yx") is not None:
        return _pick_micrograph(found, source, device, elsewhere)
    return _pick_tomogram(found, source, device, elsewhere)


def _formats(found: _Findings) -> tuple[PickFormat, ...]:
    return tuple(flavor for flavor in PickFormat if flavor.value in (found.part("outputs") or {}))


def _model_file(found: _Findings, elsewhere: Elsewhere) -> Path | None:
    files = [Path(one) for one in found.part("files", "model") or []]
    return elsewhere.model or next((path for path in files if path.is_file()), None)


def _pick_micrograph(
    found: _Findings, source: Path, device: str, elsewhere: Elsewhere
) -> Callable[[Path, bool, OnEvent], Report]:
    from cryoseg.models.particle_model import load_particle_model
    from cryoseg.pipelines.pick_micrograph_files import pick_micrograph_files

    place = _model_file(found, elsewhere) or found.part("model", "name")
    if place is None:
        raise WeightsError(f"{found.path}: does not name its model. Pass --model.")
    model = load_particle_model(
        str(place),
        select_device(device),
        precision=select_precision(_precision(found, device), select_device(device)),
        checkpoints_dir=elsewhere.checkpoints_dir,
    )
    now = {name: (Path(name), digest) for name, digest in model.hashes.items()}
    _compare_weights(found, now, found.part("model", "sha256") or {})
    config, written = found.settings(MicrographPickConfig), found.part("outputs") or {}
    outputs = partial(
        MicrographPickOptions,
        formats=_formats(found),
        mask="mask" in written,
        logits="logits" in written,
        overlay="overlay" in written,
        combined=False,
    )

    def run(output_dir: Path, overwrite: bool, on_event: OnEvent) -> Report:
        return pick_micrograph_files(
            [source], output_dir, model, config, outputs=outputs(overwrite=overwrite), on_event=on_event
        )

    return run


def _pick_tomogram(
    found: _Findings, source: Path, device: str, elsewhere: Elsewhere
) -> Callable[[Path, bool, OnEvent], Report]:
    from cryoseg.pipelines.pick import PickOutputs, pick_files

    model = _model_file(found, elsewhere)
    if model is None:
        raise WeightsError(f"{found.path}: the model of this run is not where it was. Pass --model FILE.")
    found.compare_hash(model, found.part("model", "sha256"))
    mask = None
    if found.part("mask") is not None:
        mask = Path(found.part("files", "mask") or "")
        if not is_volume(mask):
            raise InputError(f"{found.path}: the mask of this run is gone ({mask}). Put it back.")
        found.compare_hash(mask, found.part("mask", "sha256"))
    frame = found.part("relion")
    relion = {"": restore(RelionFrame, frame, source=f"{found.path}: relion")} if frame else None
    config, written = found.settings(TomogramPickConfig), found.part("outputs") or {}
    outputs = partial(
        PickOutputs,
        formats=_formats(found),
        heat_map="heat_map" in written,
        preview="preview" in written,
        combined=False,
    )

    def run(output_dir: Path, overwrite: bool, on_event: OnEvent) -> Report:
        return pick_files(
            [source],
            output_dir,
            model,
            config,
            outputs=outputs(overwrite=overwrite),
            relion=relion,
            mask=mask,
            pixel_size=found.part("reading", "pixel_size"),
            device=device,
            on_event=on_event,
        )

    return run


def require_same(rerun: Rerun) -> None:
    """Refuse a run that would not be a repetition.

    Raises
    ------
    CryosegError
        If anything differs; everything that does is named.
    """
    if rerun.differences:
        raise CryosegError(
            f"{rerun.record}: cannot be repeated as it was. {'; '.join(rerun.differences)}. "
            "Pass --anyway to run with what is here."
        )


def _figure(value: float) -> str:
    return f"{100 * value:.4g} %" if isinstance(value, float) else str(value)
