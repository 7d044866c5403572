"""Settings of `cryoseg pick --on-membrane`, which places oriented points on membranes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from cryoseg.config.common import Mode0, mode0_setting, seed_setting
from cryoseg.config.setting import Settings, setting
from cryoseg.errors import ConfigError

_LENGTH = re.compile(r"([+-]?\d+(?:\.\d*)?)\s*(A|Å|nm)?", re.I)


class MembraneSide(StrEnum):
    """Directions in which the points of a membrane look.

    `outer`: outward on closed membranes, and to the convex side of open ones. `both`: points that look
    outward, and as many that look inward.
    """

    OUTER = "outer"
    BOTH = "both"


def read_angstrom(text: str, *, option: str) -> float:
    """Read a length such as `100`, `100A` or `10nm` in angstrom.

    Raises
    ------
    ConfigError
        If the text has another form.
    """
    match = _LENGTH.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{option} {text}: give a length in angstrom, such as 100A, or as 10nm.")
    return float(match[1]) * (10 if (match[2] or "A").lower() == "nm" else 1)


@dataclass(frozen=True, kw_only=True)
class MembranePickConfig(Settings):
    """Settings of points on membranes.

    Attributes
    ----------
    logit_threshold
        Threshold of logits; None uses the recorded one.
    """

    panel: ClassVar[str] = "Points on membranes"

    spacing_angstrom: float = setting(
        100.0,
        help="Smallest distance between points along the membrane, such as 100A or 10nm.",
        flags=("--spacing",),
        above=0,
        unit="angstrom",
        read=read_angstrom,
        metavar="LENGTH",
    )
    side: MembraneSide = setting(
        MembraneSide.OUTER,
        help="Direction in which the points look. outer: outward, and on open membranes to the convex side. "
        "both: as many points look inward.",
    )
    offset_angstrom: float = setting(
        0.0,
        help="Distance of the points from the middle of the membrane in the direction in which they look, "
        "such as 50A.",
        flags=("--offset",),
        read=read_angstrom,
        metavar="LENGTH",
    )
    seed: int = seed_setting()
    logit_threshold: float | None = None
    mode0: Mode0 = mode0_setting()
