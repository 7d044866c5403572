"""Options that mean the same in every command: one name, unit, default and help text each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

from typer import Argument, Option

from cryoseg.config import Precision
from cryoseg.config.common import DEVICE_NAMES, DEVICE_ORDER
from cryoseg.config.pictures import Morphology

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
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print errors and the summary only.")]
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
Count = Annotated[int, Option("--count", "-n", min=1, help="How many to make.")]
First = Annotated[int, Option("--first", min=0, help="Number of the first one to make.")]
Workers = Annotated[
    int, Option("--workers", min=1, help="Processes; what is made does not depend on their number.")
]
Prefix = Annotated[str, Option("--prefix", help="First part of the file names.")]
Split = Annotated[
    str,
    Option("--split", help="Of a .csv list, only the rows of this split, such as test.", show_default="all"),
]
MorphologyOption = Annotated[
    Morphology, Option("--morphology", help="open drops thin parts of the mask, close fills narrow gaps.")
]
Kernel = Annotated[int, Option("--kernel", help="Side of the square that opens or closes, in pixels.")]


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
