"""Options that mean the same in every command: one name, unit, default and help text each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

from typer import Argument, Option

from cryoseg.cli.option_groups import OptionGroup
from cryoseg.config import Naming, Precision
from cryoseg.config.common import DEVICE_NAMES, DEVICE_ORDER
from cryoseg.config.pictures import Morphology
from cryoseg.config.segment import PostprocessLengths

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
        help="Pixel size in angstrom; overrides the file header.",
        show_default="header",
    ),
]
Device = Annotated[str, Option("--device", help=f"{DEVICE_NAMES}; auto takes {DEVICE_ORDER}.")]
PrecisionOption = Annotated[Precision, Option("--precision", help="auto: bfloat16 on CUDA, else float32.")]
Overwrite = Annotated[
    bool, Option("--overwrite", help="Replace finished outputs; they are kept otherwise, and said to be.")
]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print errors and the summary only.")]
Verbose = Annotated[bool, Option("--verbose", "-v", help="Print every setting and note.")]
CheckpointsDir = Annotated[
    Optional[Path],  # noqa: UP045
    Option(
        "--checkpoints-dir", help="Look for weights here first.", show_default="see `cryoseg weights path`"
    ),
]
NamingOption = Annotated[Naming, Option("--naming", help="etsam: the output names of ETSAM's own script.")]
Seed = Annotated[int, Option("--seed", help="Seed of every random choice.")]
Card = Annotated[
    Optional[str],  # noqa: UP045
    Option(
        "--card",
        help='JSON object to add to the model\'s card, such as \'{"data": "..."}\'.',
        show_default="none",
    ),
]
Count = Annotated[int, Option("--count", "-n", min=1, help="How many to make.")]
Workers = Annotated[
    int, Option("--workers", min=1, help="Processes; what is made does not depend on their number.")
]
Prefix = Annotated[str, Option("--prefix", help="First part of the file names.")]
Split = Annotated[
    str,
    Option("--split", help="Of a .csv list, only the rows of this split, such as test.", show_default="all"),
]
FromRelion4 = Annotated[
    bool, Option("--from-relion4", help="Coordinates in STAR are RELION 4's unbinned pixels.")
]
MorphologyOption = Annotated[
    Morphology, Option("--morphology", help="open drops thin parts of the mask, close fills narrow gaps.")
]
Kernel = Annotated[int, Option("--kernel", help="Side of the square that opens or closes, in pixels.")]


@dataclass(frozen=True, kw_only=True)
class LengthOptions(OptionGroup):
    """What the post-processing steps need; the fields of `PostprocessLengths`."""

    min_slices: Annotated[
        int, Option("--post-process-min-slices", help="thin-noise drops components on fewer slices.")
    ] = PostprocessLengths.min_slices
    max_bridge_length: Annotated[
        int,
        Option(
            "--post-process-max-bridge-len",
            help="bridges cuts links between membranes of up to this many pixels.",
        ),
    ] = PostprocessLengths.max_bridge_length
    max_spur_length: Annotated[
        int,
        Option("--post-process-max-spur-len", help="bridges cuts spurs of up to this many pixels; 0: none."),
    ] = PostprocessLengths.max_spur_length


# Of options that mean the same everywhere, while each method has its own default for them.
LOGIT_THRESHOLD_HELP = "Voxels or pixels with a logit above this are marked; logit 0 is probability 0.5."
POLARITY_HELP = "Membranes or particles are dark or bright, where the data do not say."
DIAMETER_HELP = "Largest diameter of the particle, or width of the filament, in angstrom."
DIAMETER_PX_HELP = "The same in pixels of the images."
PICKS_HELP = "Coordinate files of any known format; repeat for several."
MASK_HELP = "Mask, or a folder of masks named after the tomograms, as `cryoseg segment` writes them."
STEP_HELP = "Filter by this step alone; repeat for several."
STORE_LOGITS_HELP = "Write the logits too, as float32 MRC."
SAM2_CONFIG_HELP = "SAM 2 configuration of the weights: a YAML file, or a name in sam2."
VALIDATION_HELP = "Data to judge by, not trained on."
STEPS_HELP = "Optimizer steps."
LEARNING_RATE_HELP = "Peak learning rate."
BATCH_HELP = "Samples (clips, crops, tiles) per step, over all processes."
CLIP_LENGTH_HELP = "Consecutive slices per clip."
VALIDATE_EVERY_HELP = "Steps between validations."


PREPARE_HELP = "Pictures: leave out a black border, in training and therefore in segment-image."
