"""Settings of `cryoseg pick` on tomograms, and of the coordinate files that it writes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import ClassVar

from cryoseg.config.common import Mode0, ResultOutputs, mode0_setting
from cryoseg.config.setting import Settings, setting
from cryoseg.errors import ConfigError


class ThicknessAxis(StrEnum):
    """Axis of the file along which the sample is thin.

    `z` in usual MRC files; `y` in reconstructions of IMOD that were not rotated.
    """

    Z = "z"
    Y = "y"
    X = "x"


@dataclass(frozen=True)
class FormatTraits:
    """Where a format of coordinate files is read and written, and what its files hold.

    Attributes
    ----------
    module
        Module of `cryoseg.io.picks` with functions such as `read_mod` and `write_mod`.
    suffixes
        Suffixes of the files; the first one is written.
    dimensions
        Dimensions of the points: 2 in micrographs, 3 in tomograms.
    holds
        Fields of `Picks` that the files hold, and `fractions` of voxels. A format that holds some further
        columns alone names them in its module, as `DYNAMO_COLUMNS`.
    several
        Whether a file holds the picks of several images.
    is_numbered
        Whether tomograms have numbers in place of names.
    is_read
        Whether there is a reader; else the first format with the same suffix reads the files.
    marker
        Text near the beginning of the files that tells them from other files with the same suffix.
    in_folders
        Whether files with these suffixes are looked for in folders.
    beside
        Suffix of a further file that is written beside the file; empty if there is none.
    """

    module: str
    suffixes: tuple[str, ...]
    dimensions: tuple[int, ...] = (3,)
    holds: tuple[str, ...] = ()
    several: bool = False
    is_numbered: bool = False
    is_read: bool = True
    marker: str = ""
    in_folders: bool = True
    beside: str = ""


_POSES = ("fractions", "scores", "tracks", "rotations", "shifts")
_MOTL = (*_POSES, "classes")
_STAR = (*_MOTL, "half_sets", "columns")
_CSV = (".csv", ".tsv", ".txt", ".point")


class PickFormat(StrEnum):
    """Formats of coordinate files: a name and its traits, from which options, readers and messages are made.

    `star` holds voxels of the tomogram or pixels of the micrograph; `star-relion4` and `star-relion5` use the
    frames of RELION.
    """

    traits: FormatTraits

    def __new__(cls, value: str, traits: FormatTraits) -> PickFormat:  # noqa: D102
        member = str.__new__(cls, value)
        member._value_ = value
        member.traits = traits
        return member

    STAR = "star", FormatTraits("relion_star", (".star",), (2, 3), _STAR, several=True)
    STAR_RELION4 = (
        "star-relion4",
        FormatTraits("relion_star", (".star",), holds=_STAR, several=True, is_read=False),
    )
    STAR_RELION5 = (
        "star-relion5",
        FormatTraits("relion_star", (".star",), holds=_STAR, several=True, is_read=False),
    )
    CSV = (
        "csv",
        FormatTraits("text", _CSV, (2, 3), ("fractions", "scores", "tracks", "columns"), several=True),
    )
    MOD = "mod", FormatTraits("imod_model", (".mod",), holds=("fractions", "tracks"))
    NDJSON = (
        "ndjson",
        FormatTraits("ndjson", (".ndjson",), holds=("fractions", "scores", "tracks", "rotations", "columns")),
    )
    COORDS = "coords", FormatTraits("text", (".coords",), holds=("scores",))
    BOX = "box", FormatTraits("box", (".box",), (2,))
    CBOX = "cbox", FormatTraits("box", (".cbox",), (2,), ("fractions", "scores"))
    CRYOPPP = "cryoppp", FormatTraits("box", (".csv",), (2,), ("fractions",), is_read=False)
    CRYOSPARC = (
        "cryosparc",
        FormatTraits("relion_star", (".star",), (2,), _STAR, several=True, is_read=False),
    )

    DYNAMO = (
        "dynamo",
        FormatTraits("motive_lists", (".tbl",), holds=_MOTL, several=True, is_numbered=True, beside=".doc"),
    )
    MOTL = (
        "motl",
        FormatTraits("motive_lists", (".em",), holds=_MOTL, several=True, is_numbered=True, in_folders=False),
    )
    STOPGAP = (
        "stopgap",
        FormatTraits(
            "motive_lists",
            (".star",),
            holds=(*_MOTL, "half_sets"),
            several=True,
            is_numbered=True,
            marker="data_stopgap_motivelist",
        ),
    )
    PEET = "peet", FormatTraits("peet", (".csv",), holds=_POSES, marker="CCC,reserved", beside=".mod")
    COPICK = "copick", FormatTraits("copick_json", (".json",), holds=_POSES, in_folders=False)
    CRYOSPARC_EXTERNAL = (
        "cryosparc-external",
        FormatTraits("cryosparc_dataset", (".cs",), (2,), ("fractions", "scores"), several=True),
    )

    @property
    def suffix(self) -> str:
        """Suffix of the files that are written."""
        return self.traits.suffixes[0]

    @property
    def tag(self) -> str:
        """End of the stems of outputs, such as `_relion5`, which tells formats with one suffix apart."""
        first = next(one for one in PickFormat if one.suffix == self.suffix)
        return "" if first is self and self.traits.in_folders else f"_{self.removeprefix('star-')}"


# Suffixes of the files that can be read.
PICK_SUFFIXES = tuple(dict.fromkeys(suffix for one in PickFormat for suffix in one.traits.suffixes))
# Formats for micrographs, and those for tomograms; STAR and CSV are for both.
FLAT_FORMATS = tuple(one for one in PickFormat if one.traits.dimensions == (2,))
DEEP_FORMATS = tuple(one for one in PickFormat if one.traits.dimensions == (3,))
MICROGRAPH_FORMATS = tuple(one for one in PickFormat if 2 in one.traits.dimensions)


class CoordsOrder(StrEnum):
    """Order of the columns of .coords files: `xyz` in TomoTwin and crYOLO, `xzy` in CET-pick."""

    XYZ = "xyz"
    XZY = "xzy"


class CenterRule(StrEnum):
    """Origin of the centered coordinates of RELION 5, along an axis of N unbinned pixels.

    `picker`: N/2 - 1, as in the picker of RELION. `half`: N/2, as in its extraction.
    """

    PICKER = "picker"
    HALF = "half"


class Side(StrEnum):
    """Whether picks within a mask or outside of it are kept."""

    WITHIN = "within"
    OUTSIDE = "outside"


score_threshold_setting = partial(
    setting,
    help="Keep picks whose score is greater than this.",
    at_least=0,
    at_most=1,
    shown="the model's",
)

formats_setting = partial(
    setting,
    (PickFormat.STAR,),
    help=f"Coordinate files to write; repeat for several. {', '.join(FLAT_FORMATS)} are for micrographs, "
    f"{', '.join(DEEP_FORMATS)} for tomograms.",
    flags=("--format", "-f"),
)

pick_picture_setting = partial(
    setting,
    True,
    help="Write a picture with the picks.",
    flags=("--preview/--no-preview", "--save-overlay/--no-save-overlay"),
)


def with_format(formats: tuple[PickFormat, ...], one: PickFormat) -> tuple[PickFormat, ...]:
    """Add a format to others."""
    return tuple(dict.fromkeys((*formats, one)))


relion_setting = partial(
    setting,
    False,
    help="Write the files by which RELION finds the coordinates: autopick.star for micrographs; for "
    "tomograms, one star-relion5 file of all tomograms and the import index.",
)

thickness_axis_setting = partial(
    setting,
    help="Axis of the file along which the sample is thin: z for usual MRC files, y for IMOD "
    "reconstructions that were not rotated.",
)

coords_order_setting = partial(
    setting,
    None,
    help="Columns of .coords files: xyz of TomoTwin and crYOLO, or xzy of CET-pick, whose z is the "
    "thickness axis.",
    shown="by size and content",
)

mask_setting = partial(
    setting,
    None,
    help="Mask, or a folder of masks named after the tomograms, as `cryoseg segment` writes them.",
)


@dataclass(frozen=True, kw_only=True)
class FilamentConfig(Settings):
    """Settings of the fit of curves to points."""

    panel: ClassVar[str] = "Filaments in tomograms"

    link_distance: float = setting(
        2.0,
        help="Points nearer than this many filament widths belong to one filament.",
        flags=("--filament-link",),
        above=0,
    )
    min_points: int = setting(
        5, help="Drop filaments with fewer points than this.", flags=("--filament-min-points",), at_least=3
    )
    max_residual: float = setting(
        0.4,
        help="Drop filaments whose points deviate more from the curve (root mean square, in widths).",
        flags=("--filament-max-residual",),
        above=0,
    )
    max_curvature_per_width: float = setting(
        0.5,
        help="Drop filaments with a larger curvature than this, as width divided by radius.",
        flags=("--filament-max-curvature",),
        above=0,
    )
    spacing_angstrom: float | None = setting(
        None,
        help="Spacing of the resampled points along the curve.",
        flags=("--filament-spacing",),
        above=0,
        unit="angstrom",
        shown="a sixth of the width",
    )


@dataclass(frozen=True, kw_only=True)
class PickLimits(Settings):
    """Limits of picks in micrographs and in tomograms."""

    score_threshold: float | None = score_threshold_setting(None)
    max_picks: int | None = setting(
        None, help="Keep this many picks at most, those with the highest scores.", at_least=1, shown="all"
    )
    min_distance_angstrom: float | None = setting(
        None,
        help="Smallest distance between two picks.",
        flags=("--min-distance",),
        at_least=0,
        unit="angstrom",
        shown="0.4 diameters in micrographs, 0.5 in tomograms, 0.25 of filaments",
    )
    border_angstrom: float = setting(
        0.0,
        help="Drop picks nearer than this to the sides.",
        flags=("--border",),
        at_least=0,
        unit="angstrom",
    )


@dataclass(frozen=True, kw_only=True)
class TomogramPickConfig(PickLimits):
    """Settings of picking in tomograms.

    Attributes
    ----------
    filament
        Settings of the fit of curves; None fits curves only with models of filaments.
    """

    panel: ClassVar[str] = "Tomograms"

    z_border_angstrom: float = setting(
        0.0,
        help="Drop picks nearer than this to the top and bottom of the sample.",
        flags=("--z-border",),
        at_least=0,
        unit="angstrom",
    )
    symmetric: bool = setting(
        True,
        help="Average with the point-reflected tomogram, which takes twice the time and avoids a "
        "systematic shift.",
        flags=("--symmetric/--no-symmetric",),
    )
    mode0: Mode0 = mode0_setting()
    thickness_axis: ThicknessAxis | None = thickness_axis_setting(None, shown="the model's")
    mask_side: Side = setting(Side.WITHIN, help="Keep picks within the mask or outside of it.")
    mask_distance_angstrom: float = setting(
        0.0,
        help="Grow the mask by this distance in angstrom first; a negative distance shrinks it.",
        flags=("--mask-distance",),
    )
    filament: FilamentConfig | None = None


@dataclass(frozen=True, kw_only=True)
class PickOutputs(ResultOutputs):
    """Outputs of picking in tomograms.

    Attributes
    ----------
    combined
        Whether a STAR file of all tomograms is written too.
    """

    panel: ClassVar[str] = "Tomograms"

    formats: tuple[PickFormat, ...] = formats_setting()
    relion: bool = relion_setting()
    tomogram_name: str | None = setting(
        None,
        help="Pattern of the file names of the tomograms, such as rec_* or *_Vol; the name in RELION is the "
        "part that * stands for.",
        shown="by the list of inputs, or the name of the file",
    )
    heat_map: bool = setting(
        False, help="Write the probabilities as float32.", flags=("--heat-map/--no-heat-map",)
    )
    preview: bool = pick_picture_setting()
    combined: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tomogram_name is not None and self.tomogram_name.count("*") != 1:
            raise ConfigError(f"--tomogram-name {self.tomogram_name}: write one *, such as rec_* or *_Vol.")

    @property
    def written(self) -> tuple[PickFormat, ...]:
        """Formats that are written, with that of RELION if it is needed."""
        return with_format(self.formats, PickFormat.STAR_RELION5) if self.relion else self.formats
