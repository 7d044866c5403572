"""What a record says about a run, and what of that is no longer so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cryoseg.config import Precision
from cryoseg.config.restore import missing_settings, restore
from cryoseg.errors import DeviceError, InputError
from cryoseg.events import OnEvent, Report
from cryoseg.io.images.volumes import is_volume
from cryoseg.io.provenance import hash_file
from cryoseg.methods.device import select_device, select_precision

_SHOWN = 12  # first digits of a hash
Settings = TypeVar("Settings")

# The run itself: output folder, whether finished outputs are replaced, listener.
Run = Callable[[Path, bool, OnEvent], Report]


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


@dataclass
class Findings:
    """A record, and what is noticed on the way.

    Attributes
    ----------
    path, record
        The file, and what it holds.
    device, elsewhere
        Where to compute, and where things lie now.
    differences
        What is not as it was: a run with any is no repetition.
    notes
        What is different and need not change the result.
    """

    path: Path
    record: Mapping[str, Any]
    device: str = "auto"
    elsewhere: Elsewhere = Elsewhere()
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def part(self, *keys: str) -> Any:
        """A value inside the record; None where it has none."""
        value: Any = self.record
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def input(self) -> Path:
        """The input: as given, where it was, or beside the record.

        Raises
        ------
        InputError
            If it is in none of these places.
        """
        given, recorded, name = self.elsewhere.input, self.part("files", "input"), self.part("input", "name")
        if given is not None:
            if not is_volume(given):
                raise InputError(f"--input {given}: no such file.")
            source = given
        else:
            places = [Path(recorded)] if recorded else []
            places += [self.path.parent / name] if name else []
            found = [place for place in places if is_volume(place)]
            if not found:
                looked = " or ".join(map(str, places)) or "the record names none"
                raise InputError(f"{self.path}: the input of this run is gone ({looked}). Pass --input FILE.")
            source = found[0]
        self.compare_hash(source, self.part("input", "sha256"))
        return source

    def second_input(self, what: str) -> Path | None:
        """Another file that the run took, such as its `mask`, where it was; None if it took none.

        Raises
        ------
        InputError
            If it is gone.
        """
        recorded = self.part("files", what)
        if self.part(what, "sha256") is None:
            return None
        place = Path(recorded or "")
        if not is_volume(place):
            raise InputError(f"{self.path}: the {what} of this run is gone ({place}). Put it back.")
        self.compare_hash(place, self.part(what, "sha256"))
        return place

    def model_file(self) -> Path | None:
        """The first model file: as given, or where it was; None if it was none, or is gone."""
        files = [Path(one) for one in self.part("files", "model") or []]
        return self.elsewhere.model or next((path for path in files if path.is_file()), None)

    def compare_hash(self, what: Path, recorded: str | None) -> None:
        """Note a file whose content is not the recorded one."""
        now = hash_file(what)
        if recorded is None:
            self.differences.append(f"{what}: the record has no hash to compare with")
        elif now != recorded:
            self.differences.append(
                f"{what}: is another file (SHA-256 {now[:_SHOWN]}..., recorded {recorded[:_SHOWN]}...)"
            )

    def compare_weights(self, now: Mapping[str, tuple[Path, str]]) -> None:
        """Note weights that are not here; they are the same if their hashes are, whatever their names.

        Parameters
        ----------
        now
            Name to file and hash of what would be used.
        """
        recorded = self.part("model", "sha256") or {}
        for name, digest in recorded.items():
            if digest in {one for _, one in now.values()}:
                continue
            here = now.get(name) or next(iter(now.values()), None)
            told = f"{here[0]} has SHA-256 {here[1][:_SHOWN]}..." if here else "there are none here"
            self.differences.append(f"weights: the record has {name} {digest[:_SHOWN]}..., {told}")
        if not recorded:
            self.differences.append("weights: the record has no hash to compare with")

    def settings(self, kind: type[Settings], key: str = "settings") -> Settings:
        """The recorded settings."""
        values = self.part(key) or {}
        self.differences.extend(
            f"{name}: the record does not tell this setting, so its default is taken"
            for name in missing_settings(kind, values)
        )
        return restore(kind, values, source=f"{self.path}: {key}")

    def writing(self, kind: type[Settings], **changes: Any) -> Settings:
        """What the run wrote, as the settings class that says so, with some fields as they are to be now."""
        values = {**(self.part("writing") or {}), **changes}
        return restore(kind, values, source=f"{self.path}: writing")

    def precision(self) -> Precision:
        """The recorded precision, if the device offers it."""
        recorded = self.part("precision")
        if recorded not in set(Precision):
            return Precision.AUTO
        try:
            return select_precision(Precision(recorded), select_device(self.device))
        except DeviceError:
            self.notes.append(f"precision: not {recorded}, which this device does not offer")
            return Precision.AUTO
