"""Options for the unbinned tomograms of RELION, in pick, convert and train cet-pick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cryoseg.config.pick import CenterRule
from cryoseg.config.setting import Settings, read_sizes, setting, write_sizes
from cryoseg.errors import ConfigError

if TYPE_CHECKING:
    from cryoseg.io.picks.relion_frame import RelionFrame


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
        """Return the frames by name of the tomogram, "" for all; None if no option was given.

        Raises
        ------
        CryosegError
            If the file cannot be read, or only one of pixel size and size is given.
        """
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
