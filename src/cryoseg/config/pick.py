"""Settings of `cryoseg pick` on tomograms, and of the coordinate files that it writes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryoseg.errors import ConfigError


class ThicknessAxis(StrEnum):
    """Axis of the file along which the sample is thin.

    `z` is the usual MRC; `y` an IMOD reconstruction that nobody has rotated.
    """

    Z = "z"
    Y = "y"
    X = "x"


class PickFormat(StrEnum):
    """Coordinate files.

    `star` is in voxels of the tomogram or pixels of the micrograph; `star-relion4` and
    `star-relion5` in RELION's frames of a tomogram. `box`, `cbox`, `cryoppp` and `cryosparc` are for
    micrographs.
    """

    STAR = "star"
    STAR_RELION4 = "star-relion4"
    STAR_RELION5 = "star-relion5"
    CSV = "csv"
    MOD = "mod"
    NDJSON = "ndjson"
    COORDS = "coords"
    BOX = "box"
    CBOX = "cbox"
    CRYOPPP = "cryoppp"
    CRYOSPARC = "cryosparc"


# Others than these, STAR and CSV are for tomograms.
FLAT_FORMATS = (PickFormat.BOX, PickFormat.CBOX, PickFormat.CRYOPPP, PickFormat.CRYOSPARC)
DEEP_FORMATS = tuple(one for one in PickFormat if one not in (PickFormat.STAR, PickFormat.CSV, *FLAT_FORMATS))


class CenterRule(StrEnum):
    """Where RELION 5's centered coordinates have their zero, in unbinned pixels of a size N.

    `picker`: N/2 - 1, as RELION's own picker subtracts. `half`: N/2, as its extraction adds.
    """

    PICKER = "picker"
    HALF = "half"


class Side(StrEnum):
    """Picks to keep, seen from a mask: within it, or outside of it."""

    WITHIN = "within"
    OUTSIDE = "outside"


@dataclass(frozen=True, kw_only=True)
class FilamentConfig:
    """From points to curves.

    Attributes
    ----------
    link_distance
        Points nearer than this belong to one filament, in filament widths.
    min_points
        Groups of fewer points are dropped.
    max_residual
        Root mean square distance of the points from their curve, in filament widths.
    max_curvature_per_width
        Reciprocal radius of the curve, times the filament's width.
    spacing_angstrom
        Of the resampled points along the curve; None takes a sixth of the filament's width.
    """

    link_distance: float = 2.0
    min_points: int = 5
    max_residual: float = 0.4
    max_curvature_per_width: float = 0.5
    spacing_angstrom: float | None = None

    def __post_init__(self) -> None:
        if self.link_distance <= 0 or self.max_residual <= 0 or self.max_curvature_per_width <= 0:
            raise ConfigError("Filament distances, residual and curvature must be positive.")
        if self.min_points < 3:
            raise ConfigError(f"--filament-min-points {self.min_points}: must be at least 3.")
        if self.spacing_angstrom is not None and self.spacing_angstrom <= 0:
            raise ConfigError(f"--filament-spacing {self.spacing_angstrom:g}: must be positive.")


@dataclass(frozen=True, kw_only=True)
class TomogramPickConfig:
    """Everything that changes the picks of one tomogram.

    Attributes
    ----------
    score_threshold
        In [0, 1]; None takes the one that the model carries.
    max_picks
        Keep the best so many; None keeps all.
    min_distance_angstrom
        Between two picks; None takes half the particle's diameter, a quarter of a filament's width.
    border_angstrom, z_border_angstrom
        Picks nearer than this to the sides in y and x, or to the first and last slice, are
        dropped; 0 drops none.
    symmetric
        Average the heat map with that of the point-reflected tomogram; twice the time.
    thickness_axis
        Of the file; None takes that of the files that the model learned from.
    mask_side, mask_distance_angstrom
        With a mask: keep picks within it or outside of it, the mask being grown by this distance
        (shrunk, if negative).
    filament
        Fit curves and resample; None takes the model's own kind of specimen.
    """

    score_threshold: float | None = None
    max_picks: int | None = None
    min_distance_angstrom: float | None = None
    border_angstrom: float = 0.0
    z_border_angstrom: float = 0.0
    symmetric: bool = True
    thickness_axis: ThicknessAxis | None = None
    mask_side: Side = Side.WITHIN
    mask_distance_angstrom: float = 0.0
    filament: FilamentConfig | None = None

    def __post_init__(self) -> None:
        if self.score_threshold is not None and not 0 <= self.score_threshold <= 1:
            raise ConfigError(f"--score-threshold {self.score_threshold:g}: must lie in [0, 1].")
        if self.max_picks is not None and self.max_picks < 1:
            raise ConfigError(f"--max-picks {self.max_picks}: must be at least 1.")
        if self.min_distance_angstrom is not None and self.min_distance_angstrom < 0:
            raise ConfigError(f"--min-distance {self.min_distance_angstrom:g}: must not be negative.")
        if self.border_angstrom < 0 or self.z_border_angstrom < 0:
            raise ConfigError("--border and --z-border must not be negative.")
