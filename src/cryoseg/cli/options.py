"""Options that mean the same in every command: one name, unit, default and help text each."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from cryoseg.config import Mode0, Precision
from cryoseg.config.common import (
    checkpoints_dir_setting,
    device_setting,
    dry_run_setting,
    mode0_setting,
    overwrite_setting,
    pixel_size_setting,
    precision_setting,
    seed_setting,
)
from cryoseg.config.fetch_data import split_setting
from cryoseg.config.setting import Settings, setting

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole


@dataclass(frozen=True, kw_only=True)
class Verbosity(Settings):
    """How much is printed."""

    quiet: bool = setting(False, help="Print only errors and the summary.", flags=("--quiet", "-q"))
    verbose: bool = setting(False, help="Print every setting and note.", flags=("--verbose", "-v"))

    def console(self) -> AbstractContextManager[BatchConsole]:
        """The console, whose live display is closed when the block ends."""
        from cryoseg.cli.console import batch_console  # rich starts here, not at --help

        return batch_console(quiet=self.quiet, verbose=self.verbose)


Inputs = Annotated[
    list[str],
    Argument(help="Files, folders, quoted globs, or .txt lists of them.", show_default=False),
]
OutputDir = Annotated[
    Path,
    setting(
        help="Folder for the outputs; made if missing.",
        flags=("--output-dir", "-o", "--out-folder", "--output"),
    ),
]
PixelSize = Annotated[float | None, pixel_size_setting()]
Mode0Option = Annotated[Mode0, mode0_setting()]
Device = Annotated[str, device_setting()]
PrecisionOption = Annotated[Precision, precision_setting()]
Overwrite = Annotated[bool, overwrite_setting()]
DryRun = Annotated[bool, dry_run_setting()]
Quiet = Annotated[bool, setting(help="Print only errors and the summary.", flags=("--quiet", "-q"))]
Verbose = Annotated[bool, setting(help="Print every setting and note.", flags=("--verbose", "-v"))]
CheckpointsDir = Annotated[Path | None, checkpoints_dir_setting()]
Seed = Annotated[int, seed_setting()]
Card = Annotated[
    str | None,
    setting(
        help='JSON object to add to the model\'s card, such as \'{"data": "..."}\'.',
        shown="none",
    ),
]
Split = Annotated[str, split_setting()]


# Of options that mean the same everywhere, while each method has its own default for them.
LOGIT_THRESHOLD_HELP = "Mark voxels or pixels whose logit is greater than this; logit 0 is probability 0.5."
POLARITY_HELP = "Whether membranes or particles are dark or bright in the files."
DIAMETER_HELP = "Largest diameter of the particle, or width of the filament (greater than 0 angstrom)."
DIAMETER_PX_HELP = "The same diameter in pixels of the images (greater than 0 pixels)."
PICKS_HELP = "Coordinate files of any known format; repeat for several."
MASK_HELP = "Mask, or a folder of masks named after the tomograms, as `cryoseg segment` writes them."
STORE_LOGITS_HELP = "Write the logits as float32 MRC."
SAM2_CONFIG_HELP = "SAM 2 configuration of the weights: a YAML file, or a name in sam2."
VALIDATION_HELP = "Data to judge by, not trained on."
STEPS_HELP = "Optimizer steps."
LEARNING_RATE_HELP = "Peak learning rate."
BATCH_HELP = "Samples (clips, crops, tiles) per step, over all processes."
CLIP_LENGTH_HELP = "Consecutive slices per clip."
VALIDATE_EVERY_HELP = "Steps between validations."


PREPARE_HELP = "Pictures: leave out a black border, in training and therefore in segment-image."
