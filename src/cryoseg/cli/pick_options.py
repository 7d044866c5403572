"""Options of `cryoseg pick` that one kind of image has and the other has not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Optional

from typer import Option

from cryoseg.cli.option_groups import OptionGroup
from cryoseg.cli.options import (
    DIAMETER_HELP,
    DIAMETER_PX_HELP,
    LOGIT_THRESHOLD_HELP,
    MASK_HELP,
    POLARITY_HELP,
    STORE_LOGITS_HELP,
)
from cryoseg.cli.relion_options import (
    THICKNESS_AXIS_HELP,
    RelionCenter,
    TomogramsStar,
    UnbinnedPixelSize,
    UnbinnedSize,
    relion_frames,
)
from cryoseg.config.pick import CenterRule, FilamentConfig, Side, ThicknessAxis, TomogramPickConfig
from cryoseg.config.pick_micrograph import MicrographPickConfig, MicrographPickOptions, PickView
from cryoseg.config.prompt_sam import NativeMode
from cryoseg.config.segment import Polarity

if TYPE_CHECKING:
    from cryoseg.io.picks.relion_frame import RelionFrame


@dataclass(frozen=True, kw_only=True)
class LimitOptions(OptionGroup):
    """Which picks are kept, in any image."""

    score_threshold: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--score-threshold",
            help="Picks score more than this, in [0, 1].",
            show_default=f"{MicrographPickConfig.score_threshold:g} in micrographs, else the model's",
        ),
    ] = None
    max_picks: Annotated[
        Optional[int],  # noqa: UP045
        Option("--max-picks", help="Keep the best so many.", show_default="all"),
    ] = None
    min_distance: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--min-distance",
            help="Between two picks, in angstrom.",
            show_default="0.4 diameters in micrographs, 0.5 in tomograms",
        ),
    ] = None
    border: Annotated[
        float, Option("--border", help="Drop picks nearer than this to the sides, in angstrom.")
    ] = TomogramPickConfig.border_angstrom

    def settings(self) -> dict[str, Any]:
        """Fields of both settings classes; a score threshold only if one is given."""
        own = {} if self.score_threshold is None else {"score_threshold": self.score_threshold}
        return {
            **own,
            "max_picks": self.max_picks,
            "min_distance_angstrom": self.min_distance,
            "border_angstrom": self.border,
        }


@dataclass(frozen=True, kw_only=True)
class MicrographOptions(OptionGroup):
    """What a model for micrographs is told."""

    panel: ClassVar[str] = "Micrographs"

    particle_diameter: Annotated[
        Optional[float],  # noqa: UP045
        Option("--particle-diameter", help=DIAMETER_HELP, show_default="the model's in tomograms"),
    ] = None
    particle_diameter_px: Annotated[
        Optional[float],  # noqa: UP045
        Option("--particle-diameter-px", help=DIAMETER_PX_HELP, show_default="none"),
    ] = None
    logit_threshold: Annotated[
        Optional[float],  # noqa: UP045
        Option("--logit-threshold", help=LOGIT_THRESHOLD_HELP, show_default="the model's; for micrographs"),
    ] = None
    view: Annotated[
        PickView,
        Option("--view", help="tiles, or whole: the image squeezed as in Prompt_sam_cryoPPP (micrographs)."),
    ] = MicrographPickConfig.view
    mode: Annotated[
        NativeMode,
        Option(
            "--mode", help="A published SAM: one mask for a grid of points, or its automatic mask generator."
        ),
    ] = MicrographPickConfig.mode
    polarity: Annotated[Polarity, Option("--polarity", help=POLARITY_HELP)] = MicrographPickConfig.polarity
    clip_outliers: Annotated[
        bool, Option("--clip-outliers", help="Replace hot pixels first (micrographs).")
    ] = MicrographPickConfig.clip_outliers
    low_pass: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--low-pass", help="Blur detail finer than this, in angstrom (micrographs).", show_default="none"
        ),
    ] = None
    flatten: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--flatten",
            help="Take away the local mean over so many diameters (micrographs).",
            show_default="the model's own view",
        ),
    ] = None
    store_logits: Annotated[bool, Option("--store-logits/--no-store-logits", help=STORE_LOGITS_HELP)] = (
        MicrographPickOptions.logits
    )
    store_mask: Annotated[
        bool, Option("--store-mask/--no-store-mask", help="Write the mask as MRC (micrographs).")
    ] = MicrographPickOptions.mask

    def config(self, limits: LimitOptions, pixel_size: float | None) -> MicrographPickConfig:
        """The settings of a run."""
        return MicrographPickConfig(
            particle_diameter_angstrom=self.particle_diameter,
            particle_diameter_px=self.particle_diameter_px,
            pixel_size=pixel_size,
            view=self.view,
            mode=self.mode,
            logit_threshold=self.logit_threshold,
            polarity=self.polarity,
            clip_outliers=self.clip_outliers,
            low_pass_angstrom=self.low_pass,
            flatten_diameters=self.flatten,
            **limits.settings(),
        )


@dataclass(frozen=True, kw_only=True)
class TomogramOptions(OptionGroup):
    """What a model for tomograms is told."""

    panel: ClassVar[str] = "Tomograms"

    z_border: Annotated[
        float,
        Option("--z-border", help="As --border, for the top and bottom of the sample, in angstrom."),
    ] = TomogramPickConfig.z_border_angstrom
    mask: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--mask", help=MASK_HELP),
    ] = None
    mask_side: Annotated[Side, Option("--mask-side", help="Keep picks within the mask or outside of it.")] = (
        TomogramPickConfig.mask_side
    )
    mask_distance: Annotated[
        float, Option("--mask-distance", help="Grow the mask by this, in angstrom, before; negative shrinks.")
    ] = TomogramPickConfig.mask_distance_angstrom
    symmetric: Annotated[
        bool,
        Option(
            "--symmetric/--no-symmetric",
            help="Average with the point-reflected tomogram: twice the time, no systematic shift.",
        ),
    ] = TomogramPickConfig.symmetric
    heat_map: Annotated[
        bool, Option("--heat-map/--no-heat-map", help="Write the probabilities as MRC (tomograms).")
    ] = False
    thickness_axis: Annotated[
        Optional[ThicknessAxis],  # noqa: UP045
        Option("--thickness-axis", help=THICKNESS_AXIS_HELP, show_default="the model's"),
    ] = None

    def config(self, limits: LimitOptions, filaments: FilamentOptions) -> TomogramPickConfig:
        """The settings of a run."""
        return TomogramPickConfig(
            z_border_angstrom=self.z_border,
            symmetric=self.symmetric,
            thickness_axis=self.thickness_axis,
            mask_side=self.mask_side,
            mask_distance_angstrom=self.mask_distance,
            filament=filaments.config(),
            **limits.settings(),
        )


@dataclass(frozen=True, kw_only=True)
class FilamentOptions(OptionGroup):
    """How points become curves."""

    panel: ClassVar[str] = "Filaments in tomograms"

    filaments: Annotated[
        bool, Option("--filaments", help="Fit curves and resample them; filament models always do.")
    ] = False
    filament_spacing: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--filament-spacing",
            help="Of resampled points, in angstrom.",
            show_default="a sixth of the width",
        ),
    ] = None
    filament_link: Annotated[
        float, Option("--filament-link", help="Points nearer than this many widths are one filament.")
    ] = FilamentConfig.link_distance
    filament_min_points: Annotated[
        int, Option("--filament-min-points", help="Drop filaments of fewer points.")
    ] = FilamentConfig.min_points
    filament_max_residual: Annotated[
        float, Option("--filament-max-residual", help="Drop rougher ones; in widths.")
    ] = FilamentConfig.max_residual
    filament_max_curvature: Annotated[
        float, Option("--filament-max-curvature", help="Drop more bent ones; width over radius.")
    ] = FilamentConfig.max_curvature_per_width

    def config(self) -> FilamentConfig | None:
        """The settings of a run; None leaves it to the model whether these are filaments."""
        if not any(self.given().values()):
            return None
        return FilamentConfig(
            link_distance=self.filament_link,
            min_points=self.filament_min_points,
            max_residual=self.filament_max_residual,
            max_curvature_per_width=self.filament_max_curvature,
            spacing_angstrom=self.filament_spacing,
        )


@dataclass(frozen=True, kw_only=True)
class RelionOptions(OptionGroup):
    """Where RELION's unbinned tomogram is."""

    panel: ClassVar[str] = "RELION's frames of tomograms"

    tomograms_star: TomogramsStar = None
    unbinned_pixel_size: UnbinnedPixelSize = None
    unbinned_size: UnbinnedSize = None
    relion_center: RelionCenter = CenterRule.PICKER

    def frames(self) -> dict[str, RelionFrame] | None:
        """By the name of the tomogram, "" for any; None if no option was given."""
        return relion_frames(
            self.tomograms_star, self.unbinned_pixel_size, self.unbinned_size, self.relion_center
        )
