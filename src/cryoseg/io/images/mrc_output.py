"""The 1024 bytes before an MRC volume that cryoseg writes."""

from __future__ import annotations

import numpy as np

from cryoseg.io.images.mrc_header import (
    IMOD_INVERTED_ORIGIN,
    IMOD_SIGNED,
    IMOD_STAMP,
    LABEL_BYTES,
    MRC2014_VERSION,
    header_dtype,
)
from cryoseg.types import Geometry


def build_header(
    shape: tuple[int, int, int],
    mode: int,
    geometry: Geometry,
    *,
    density: tuple[float, float, float, float],
    label: str,
) -> bytes:
    """Return the 1024 bytes of a little-endian MRC2014 header.

    Parameters
    ----------
    shape
        Shape (z, y, x) of the volume.
    mode
        Mode of the voxels: 0, 1, 2, 6 or 12.
    geometry
        Geometry to store. The header contains the length of its extended header, which the caller writes
        after these bytes.
    density
        Minimum, maximum, mean and standard deviation of the voxels.
    label
        Label of up to 80 characters; longer ones are cut, and `?` replaces other than printable ASCII.
    """
    block = np.zeros(1, header_dtype("<"))
    fields = block[0]
    fields["size"] = shape[::-1]
    fields["mode"] = mode
    fields["start"] = geometry.start[::-1]
    fields["grid"] = shape[::-1]
    with np.errstate(over="ignore"):
        fields["cell"] = [size * n for size, n in zip(geometry.voxel_size, shape, strict=True)][::-1]
    fields["angles"] = 90.0
    fields["axes"] = (1, 2, 3)
    fields["density"] = density[:3]
    fields["rms"] = density[3]
    fields["space_group"] = geometry.space_group
    # IMOD turns the origin's sign on reading wherever it sees an MRC2014 version number.
    old_origin = geometry.imod_origin and any(geometry.origin)
    fields["version"] = 0 if old_origin else MRC2014_VERSION + 1
    if extended := geometry.extended_header:
        fields["extended_bytes"] = len(extended.content)
        fields["extended_kind"] = np.void(extended.kind)
        fields["extended_counts"] = np.void(extended.counts)
    if mode == 0:
        # Without its own flags IMOD guesses from the minimum whether bytes are signed.
        fields["imod_stamp"] = IMOD_STAMP
        fields["imod_flags"] = IMOD_SIGNED | (0 if old_origin else IMOD_INVERTED_ORIGIN)
    fields["origin"] = geometry.origin[::-1]
    fields["map"] = b"MAP "
    fields["stamp"] = b"\x44\x44\x00\x00"
    fields["label_count"] = 1
    printable = "".join(c if " " <= c <= "~" else "?" for c in label)
    fields["labels"][0] = printable[:LABEL_BYTES].encode("ascii")
    return block.tobytes()
