"""Find the image to which a name refers by its name and folders."""

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
# Words that pickers and Warp (with its voxel size) add to the name of an image.
_AROUND = re.compile(r"^rec_|_(?:particles|picks?|coords|truth|labels|[0-9]+(?:\.[0-9]+)?Apx)$")


def image_stem(name: str) -> str:
    """Return the name of an image without folder and suffixes: `TS_01.mrc.tomostar` gives `TS_01`."""
    stem = PurePosixPath(name.replace("\\", "/")).name.removesuffix(":mrc")
    while (suffix := known_suffix(Path(stem), _SUFFIXES)) is not None:
        stem = stem[: -len(suffix)]
    return stem


@dataclass(frozen=True)
class ImageName:
    """The name of an image in a file of picks, or the path of the image.

    Attributes
    ----------
    name
        Name with or without folder and suffix; empty if the file is named after the image.
    file
        File that contains the name, whose folder is used if the name has none.
    """

    name: str
    file: Path

    @property
    def text(self) -> str:
        """The name for messages."""
        return self.name or self.file.stem

    @cached_property
    def stem(self) -> str:
        """The `image_stem` of the name."""
        return image_stem(self.text)

    @cached_property
    def core(self) -> str:
        """The stem without the words that programs add to it; never empty."""
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
        """Folders of the name or, if it has none, of the file that contains it."""
        return self.path.parts[:-1] if self.has_folder else self.file.absolute().parts[:-1]

    def likeness(self, other: ImageName) -> tuple[int, bool, int, bool]:
        """Return how similar two names are, as a tuple that can be compared.

        The tuple contains the number of equal last folders, whether the file has the name of an output of a
        batch, which begins with folders (`grid1_TS_01_particles.star`), the number of equal folders, and
        whether name and suffix are equal.
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
        """Whether two names with one stem refer to two images."""
        if self.has_folder and other.has_folder and self.folders != other.folders:
            return True
        ends = [one.path.name.removeprefix(one.stem) for one in (self, other)]
        return all(ends) and ends[0] != ends[1] and self.stem == other.stem


def match_names(names: Sequence[ImageName], images: Sequence[ImageName]) -> list[int | None]:
    """Return the index of the image to which each name refers, or None.

    A name refers to an image if their stems are equal, possibly without the words that programs add. The name
    of a file may also begin with the stem of an image, such as `ts_01_ribosomes.star`. Among several images,
    folders and suffixes decide.

    Parameters
    ----------
    names
        Names of sets of picks or of masks.
    images
        Names of the images.

    Raises
    ------
    InputError
        If folders and suffixes do not decide to which of several images a name refers, or which of several
        names refers to an image.
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
    """Return the images with the longest stem with which the name of a file begins."""
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
    """Return file names with as many folders in front as make them different: `TS_01` or `grid1/TS_01`.

    Parameters
    ----------
    paths
        Paths of images.
    names
        Names that get folders in front; None uses the names of the files.
    bare
        Whether suffixes are left out if the names differ without them.
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
