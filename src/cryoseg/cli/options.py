"""Options with the same name, unit, default and help in all commands."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from typer import Argument

from cryoseg.config import Mode0, Precision
from cryoseg.config.common import (
    ProgressStyle,
    checkpoints_dir_setting,
    device_setting,
    dry_run_setting,
    mode0_setting,
    overwrite_setting,
    pixel_size_setting,
    precision_setting,
)
from cryoseg.config.fetch_data import split_setting
from cryoseg.config.pick import CenterRule
from cryoseg.config.setting import Settings, read_sizes, setting, write_sizes
from cryoseg.errors import ConfigError

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole
    from cryoseg.io.picks.relion_frame import RelionFrame


quiet_setting = partial(setting, False, help="Print only errors and the summary.", flags=("--quiet", "-q"))


@dataclass(frozen=True, kw_only=True)
class Verbosity(Settings):
    """Amount of printed text."""

    quiet: bool = quiet_setting()
    verbose: bool = setting(False, help="Print every setting and note.", flags=("--verbose", "-v"))
    progress: ProgressStyle = setting(
        ProgressStyle.AUTO,
        help="How progress is printed. auto: a bar on a terminal, else plain lines; json: every event as one "
        "line of JSON on stderr.",
    )

    def console(self) -> AbstractContextManager[BatchConsole]:
        """Return a console, whose progress bar is removed at the end of the block."""
        from cryoseg.cli.console import batch_console  # imports rich, which --help does not need

        return batch_console(quiet=self.quiet, verbose=self.verbose, progress=self.progress)


Inputs = Annotated[
    list[str],
    Argument(
        help="Files, folders, quoted globs, .txt lists, or micrographs.star or tomograms.star of RELION.",
        show_default=False,
    ),
]
output_dir_setting = partial(
    setting,
    help="Folder of the outputs, which is made if it is missing.",
    flags=("--output-dir", "-o", "--out-folder", "--output"),
)
OutputDir = Annotated[Path, output_dir_setting()]
PixelSize = Annotated[float | None, pixel_size_setting()]
Mode0Option = Annotated[Mode0, mode0_setting()]
Device = Annotated[str, device_setting()]
PrecisionOption = Annotated[Precision, precision_setting()]
Overwrite = Annotated[bool, overwrite_setting()]
DryRun = Annotated[bool, dry_run_setting()]
Quiet = Annotated[bool, quiet_setting()]
CheckpointsDir = Annotated[Path | None, checkpoints_dir_setting()]
Split = Annotated[str, split_setting()]


@dataclass(frozen=True, kw_only=True)
class RelionOptions(Settings):
    """Pixel sizes and sizes of the unbinned tomograms of RELION."""

    panel: ClassVar[str] = "RELION's frames of tomograms"

    tomograms_star: Path | None = setting(
        None, help="RELION's tomograms.star, which gives pixel sizes and unbinned sizes."
    )
    unbinned_pixel_size: float | None = setting(
        None, help="Pixel size of the tilt series.", above=0, unit="angstrom"
    )
    unbinned_size: tuple[int, int, int] | None = setting(
        None,
        help="Size (x, y, z) of the unbinned tomogram in pixels, such as 4096x4096x2048.",
        read=read_sizes("XxYxZ", "4096x4096x2048"),
        write=write_sizes,
        metavar="XxYxZ",
        at_least=1,
    )
    relion_center: CenterRule = setting(
        CenterRule.PICKER,
        help="Origin of RELION 5's coordinates along an axis of N pixels: N/2 - 1 (picker, as RELION picks) "
        "or N/2 (half).",
    )

    def frames(self) -> dict[str, RelionFrame] | None:
        """Return the frames by name of the tomogram, "" for all; None if no option was given."""
        from cryoseg.io.picks.relion_frame import RelionFrame, read_tomograms_star

        if self.tomograms_star is not None:
            return read_tomograms_star(self.tomograms_star, center=self.relion_center)
        if self.unbinned_pixel_size is None and self.unbinned_size is None:
            return None
        if self.unbinned_pixel_size is None or self.unbinned_size is None:
            raise ConfigError("--unbinned-pixel-size and --unbinned-size are needed together.")
        x, y, z = self.unbinned_size
        return {
            "": RelionFrame(pixel_size=self.unbinned_pixel_size, size=(z, y, x), center=self.relion_center)
        }
