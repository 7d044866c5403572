"""Options that mean the same in every command: one name, unit, default and help text each."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

from typer import Argument, Option

from cryoseg.config import Precision
from cryoseg.config.common import DEVICE_NAMES, DEVICE_ORDER
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


@dataclass(frozen=True, kw_only=True)
class DryRun(Settings):
    """Whether only the plan is printed."""

    dry_run: bool = setting(False, help="Print what would be done and write nothing.")


Inputs = Annotated[
    list[str],
    Argument(help="Files, folders, quoted globs, or .txt lists of them.", show_default=False),
]
OutputDir = Annotated[
    Path,
    Option("--output-dir", "-o", "--out-folder", "--output", help="Folder for the outputs; made if missing."),
]
PixelSize = Annotated[
    Optional[float],  # noqa: UP045
    Option(
        "--pixel-size",
        "--voxel-size",
        "--apix",
        help="Pixel size; it overrides the header of the file (from 0.1 to 1000 angstrom).",
        show_default="header",
    ),
]
Device = Annotated[str, Option("--device", help=f"{DEVICE_NAMES}; auto takes {DEVICE_ORDER}.")]
PrecisionOption = Annotated[Precision, Option("--precision", help="auto: bfloat16 on CUDA, else float32.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace finished outputs, which are kept otherwise.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print only errors and the summary.")]
Verbose = Annotated[bool, Option("--verbose", "-v", help="Print every setting and note.")]
CheckpointsDir = Annotated[
    Optional[Path],  # noqa: UP045
    Option(
        "--checkpoints-dir",
        help="Folder where weights are looked for first.",
        show_default="see `cryoseg weights path`",
    ),
]
Seed = Annotated[int, Option("--seed", help="Seed of the random numbers (at least 0).")]
Card = Annotated[
    Optional[str],  # noqa: UP045
    Option(
        "--card",
        help='JSON object to add to the model\'s card, such as \'{"data": "..."}\'.',
        show_default="none",
    ),
]
Split = Annotated[
    str,
    Option(
        "--split", help="Take only the rows of this split of a .csv list, such as test.", show_default="all"
    ),
]


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
