"""Find out which image a name means, by as much of the path as is needed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from cryoseg.errors import InputError
from cryoseg.io.images.micrographs import MICROGRAPH_SUFFIXES
from cryoseg.io.images.volumes import VOLUME_SUFFIXES, known_suffix

_SUFFIXES = (*VOLUME_SUFFIXES, *MICROGRAPH_SUFFIXES, ".tomostar")
# Words that pickers, and Warp with its voxel size, put around the name of an image.
_AROUND = re.compile(r"^rec_|_(?:particles|picks?|coords|truth|labels|[0-9]+(?:\.[0-9]+)?Apx)$")


def image_stem(name: str) -> str:
    """Name of an image without folder and suffixes: `TS_01.mrc.tomostar` gives `TS_01`."""
    stem = PurePosixPath(name.replace("\\", "/")).name.removesuffix(":mrc")
    while (suffix := known_suffix(Path(stem), _SUFFIXES)) is not None:
        stem = stem[: -len(suffix)]
    return stem


@dataclass(frozen=True)
class ImageName:
    """A name of an image as a file of picks has it, or the path of the image itself.

    Attributes
    ----------
    name
        With or without folder and suffix; empty where the file is named after the image.
    file
        The file that holds the name, whose folder counts where the name has none.
    """

    name: str
    file: Path

    @property
    def text(self) -> str:
        """The name for messages."""
        return self.name or self.file.stem

    @cached_property
    def stem(self) -> str:
        """See `image_stem`."""
        return image_stem(self.text)

    @cached_property
    def core(self) -> str:
        """The stem without what programs put around it; never empty."""
        stem = self.stem
        while (shorter := _AROUND.sub("", stem)) and shorter != stem:
            stem = shorter
        return stem

    @cached_property
    def path(self) -> PurePosixPath:
        """The name with forward slashes."""
        return PurePosixPath(self.text.replace("\\", "/"))

    @property
    def has_folder(self) -> bool:
        """Whether the name itself gives a folder."""
        return len(self.path.parts) > 1

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """Folders of the name, else of the file that holds it."""
        return self.path.parts[:-1] if self.has_folder else self.file.absolute().parts[:-1]

    def likeness(self, other: ImageName) -> tuple[int, bool, int, bool]:
        """How much of two paths agrees.

        Last folders; whether the file is called as the outputs of a batch are, which have folders before the
        name (`grid1_TS_01_particles.star`); folders anywhere; and the suffix.
        """
        last = 0
        for mine, theirs in zip(reversed(self.folders), reversed(other.folders), strict=False):
            if mine != theirs:
                break
            last += 1
        outputs = {"_".join((*other.folders[-depth:], other.core)) for depth in range(1, 4)}
        is_output = ImageName("", self.file).core in outputs
        shared = len({*self.folders} & {*other.folders})
        return last, is_output, shared, self.path.name == other.path.name

    def differs(self, other: ImageName) -> bool:
        """Whether two names of one stem say that they mean two images."""
        if self.has_folder and other.has_folder and self.folders != other.folders:
            return True
        ends = [one.path.name.removeprefix(one.stem) for one in (self, other)]
        return all(ends) and ends[0] != ends[1] and self.stem == other.stem


def match_names(names: Sequence[ImageName], images: Sequence[ImageName]) -> list[int | None]:
    """The number of the image that each name means, or None.

    The stems of both agree, or what is left of them without the words that programs put around; a file
    named after an image may go on after it, as `ts_01_ribosomes.star` does. Where several images agree
    with a name, folders and suffixes decide.

    Parameters
    ----------
    names
        Of sets of picks, or of masks.
    images
        What they may mean.

    Raises
    ------
    InputError
        If folders and suffixes do not tell which of several images a name means, or which of several
        names means an image.
    """
    by_stem: defaultdict[str, list[int]] = defaultdict(list)
    by_core: defaultdict[str, list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        by_stem[image.stem].append(index)
        by_core[image.core].append(index)
    found: list[int | None] = []
    for name in names:
        alike = by_stem.get(name.stem) or by_core.get(name.core) or _begun_by(name, by_stem)
        best = sorted(alike, key=lambda index: name.likeness(images[index]), reverse=True)[:2]
        if len(best) == 2 and name.likeness(images[best[0]]) == name.likeness(images[best[1]]):
            raise InputError(
                f"{name.file}: {name.text} may mean {images[best[0]].name} or {images[best[1]].name}. Write "
                "its folder into the name, or give one of the images."
            )
        found.append(best[0] if best else None)
    chosen_by: defaultdict[int, list[int]] = defaultdict(list)
    for number, chosen in enumerate(found):
        if chosen is not None:
            chosen_by[chosen].append(number)
    for index, own in chosen_by.items():
        image = images[index]
        own.sort(key=lambda number: names[number].likeness(image), reverse=True)
        for number in own[1:]:
            first, other = names[own[0]], names[number]
            if not first.differs(other):
                continue
            if first.likeness(image) == other.likeness(image):
                raise InputError(
                    f"{other.file}: {first.text} and {other.text} may both mean {image.name}. Give the image "
                    "from a folder of the name that you mean."
                )
            found[number] = None
    return found


def _begun_by(name: ImageName, by_stem: Mapping[str, list[int]]) -> list[int]:
    """The images with the longest stem that the name of a file begins with."""
    if name.name:
        return []
    # Position_1_2 is another tilt series than Position_1.
    stems = [
        stem
        for stem in by_stem
        if name.stem.startswith((f"{stem}_", f"{stem}.")) and not name.stem[len(stem) + 1 :].isdigit()
    ]
    return by_stem[max(stems, key=len)] if stems else []


def distinct_names(
    paths: Sequence[Path], *, names: Sequence[str] | None = None, bare: bool = False
) -> list[str]:
    """File names with as many folders in front as tell them apart: `TS_01`, or `grid1/TS_01`.

    Parameters
    ----------
    paths
        Of images.
    names
        What the folders are put before; None takes the names of the files.
    bare
        Leave out suffixes where the rest tells the files apart.
    """
    folders = [path.absolute().parts[1:-1] for path in paths]
    last = list(names or (path.name for path in paths))
    if bare:
        stems = [image_stem(name) for name in last]
        alike = Counter(zip(folders, stems, strict=True))
        last = [
            name if alike[folder, stem] > 1 else stem
            for folder, stem, name in zip(folders, stems, last, strict=True)
        ]
    found = last
    for depth in range(1, max(map(len, folders), default=0) + 1):
        count = Counter(found)
        if len(count) == len(found):
            break
        found = [
            "/".join((*folder[-depth:], name)) if count[short] > 1 else short
            for folder, name, short in zip(folders, last, found, strict=True)
        ]
    return found
