"""Options that the commands for ordinary pictures share."""

from __future__ import annotations

PREPARE_HELP = "Pictures: leave out a black border, in training and therefore in segment-image."
