"""Images and their labels on disk, paired by name and never by order."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cryoseg.config.segment import Polarity
from cryoseg.errors import InputError
from cryoseg.io.inputs import is_input, listed_pixel_sizes, resolve_inputs, stem

LABEL_FOLDERS = ("labels", "masks", "target_mask")
# What stands behind the name of an image in the name of its labels, in order of preference.
LABEL_TAGS = ("", "_labels", "_mask", "_label", "_target_mask")
# Ends of the names of masks of a tomogram.
_MASK_ENDINGS = ("_membrane_post_processed_mask", "_membrane_mask", "_mask", "")
_SHOWN = 3
# Words that programs put behind the name of an image, longest first.
_TAIL = re.compile(
    r"_(?:membrane_post_processed_mask|etsam_predicted(?:_split_processing)?_post_processed_mask"
    r"|etsam_predicted(?:_split_processing)?_(?:mask|logits)|membrane_(?:mask|logits|labels?)"
    r"|post_processed_mask|target_mask|masks?|logits|labels?|truth|gt|segmentation|pred(?:iction)?|tomogram)$",
    re.I,
)


def base_name(path: Path, suffixes: tuple[str, ...] | None = None) -> str:
    """Return the stem without the words that programs put behind an image's name; never empty.

    `suffixes` are the known suffixes, by default those of volumes.
    """
    name = stem(path) if suffixes is None else stem(path, suffixes)
    while (shorter := _TAIL.sub("", name)) and shorter != name:
        name = shorter
    return name


@dataclass(frozen=True, kw_only=True)
class LabeledImage:
    """An image and its labels on disk.

    Attributes
    ----------
    name
        Name that both share.
    image, labels
        The files.
    polarity
        Polarity that a list or the record of a simulation gives, or None.
    pixel_size
        Pixel size in angstrom that a STAR file gives, or None.
    """

    name: str
    image: Path
    labels: Path
    polarity: Polarity | None = None
    pixel_size: float | None = None


def find_labeled(
    source: Path, *, kind: str, suffixes: tuple[str, ...], labels: Path | None = None
) -> list[LabeledImage]:
    """Find the images of a folder or list that have labels.

    A folder holds `X_<kind>.mrc` with `X_labels.mrc` (or `_mask`), or the folders `images` (or `<kind>s`)
    and `labels` (or `masks`) with equal names, a label's perhaps with `_mask` behind. A CSV has the columns
    `<kind>` and `mask`, paths relative to it, and optionally `polarity` (dark or bright). The images of a
    STAR file of RELION have labels in the folder `labels`, named after the image or the tilt series.

    Parameters
    ----------
    source
        The folder or list.
    kind
        `tomogram` or `micrograph`.
    suffixes
        Known suffixes of the kind.
    labels
        Folder of the labels of images in STAR files.

    Raises
    ------
    InputError
        If the source is missing or holds no pair, an image has no labels, or two files share a name.
    """
    if not source.exists():
        raise InputError(
            f"{source}: not found; give a folder of pairs or a CSV with the columns {kind},mask."
        )
    if source.suffix.lower() == ".star":
        if labels is None:
            remedy = (
                "name their folder with --labels"
                if kind == "tomogram"
                else "give folders of both, or positions to `cryoseg train finetune` with --picks"
            )
            raise InputError(f"{source}: lists images without labels; {remedy}.")
        return _from_star(source, labels, suffixes)
    if source.is_file():
        return _from_list(source, kind)
    images = first_folder(source, (f"{kind}s", kind, "images"))
    own = first_folder(source, LABEL_FOLDERS)
    pairs = _simulated(source, kind, suffixes)
    if images is not None and own is not None:
        pairs += _by_name(_files(images, suffixes), _files(own, suffixes), own)
    elif images is not None and not pairs:
        raise InputError(f"{source}: has {images.name} but no labels or masks; add them.")
    if not pairs:
        raise InputError(
            f"{source}: no pairs found; expected X_{kind}.mrc with X_labels.mrc, or the folders {kind}s (or "
            "images) and labels (or masks)."
        )
    return pairs


def first_folder(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the first of several folders that is there."""
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for item in resolve_inputs([folder], suffixes=suffixes, leave_out=None):
        if item.error is not None:
            raise InputError(item.error)
        name = stem(item.path, suffixes)
        if name in found:
            raise InputError(f"{item.path}: {found[name].name} has the same name; keep one of them.")
        found[name] = item.path
    return found


def _simulated(folder: Path, kind: str, suffixes: tuple[str, ...]) -> list[LabeledImage]:
    """Return pairs that lie side by side in one folder, as `cryoseg simulate` writes them."""
    if not any(map(is_input, folder.glob(f"*_{kind}.*"))):
        return []
    files = _files(folder, suffixes)
    pairs = []
    for name, image in files.items():
        base = name.removesuffix(f"_{kind}")
        if base == name:
            continue
        labels = next((files[base + tag] for tag in LABEL_TAGS if base + tag in files), None)
        if labels is None:
            raise InputError(f"{image}: no {base}_labels.mrc beside it; add it or move the image away.")
        polarity = _simulated_polarity(folder / f"{base}.json")
        pairs.append(LabeledImage(name=base, image=image, labels=labels, polarity=polarity))
    return pairs


def _by_name(images: Mapping[str, Path], labels: Mapping[str, Path], place: Path) -> list[LabeledImage]:
    pairs, missing = [], []
    for name, image in images.items():
        own = next((labels[name + tag] for tag in LABEL_TAGS if name + tag in labels), None)
        if own is None:
            missing.append(image.name)
        else:
            pairs.append(LabeledImage(name=name, image=image, labels=own))
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        there = ", ".join(path.name for path in list(labels.values())[:_SHOWN])
        raise InputError(
            f"{place}: has no label for {len(missing)} of {len(images)} images ({shown}); its files are "
            f"{there}. Give a label the name of its image, perhaps with _mask."
        )
    return pairs


def _from_list(path: Path, kind: str) -> list[LabeledImage]:
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or kind not in rows[0] or "mask" not in rows[0]:
        raise InputError(f"{path}: needs a header with the columns {kind},mask and at least one row.")
    pairs = []
    for row in rows:
        if not row[kind] or not row["mask"]:
            raise InputError(f"{path}: a row names no {kind} or no mask; fill it or remove it.")
        image, labels = path.parent / row[kind], path.parent / row["mask"]
        for file in (image, labels):
            if not is_input(file):
                raise InputError(f"{path}: lists {file}, which does not exist.")
        polarity = row.get("polarity")
        if polarity and polarity not in tuple(Polarity):
            raise InputError(f"{path}: polarity {polarity!r}; write {', '.join(Polarity)}, or leave it out.")
        pairs.append(
            LabeledImage(
                name=stem(image),
                image=image,
                labels=labels,
                polarity=Polarity(polarity) if polarity else None,
            )
        )
    return pairs


def _from_star(path: Path, folder: Path, suffixes: tuple[str, ...]) -> list[LabeledImage]:
    items = resolve_inputs([path], suffixes=suffixes, leave_out=None)
    if error := next((item.error for item in items if item.error is not None), None):
        raise InputError(error)
    labels = _files(folder, suffixes)
    images: dict[str, Path] = {}
    for item in items:
        series = item.listed.tomogram if item.listed is not None else ""
        names = [name for name in (stem(item.path, suffixes), series) if name]
        own = (name for name in names if any(name + tag in labels for tag in LABEL_TAGS))
        name = next(own, names[0])
        if name in images:
            raise InputError(f"{path}: {images[name]} and {item.path} would have the same labels, {name}.")
        images[name] = item.path
    sizes = listed_pixel_sizes(items)
    return [replace(pair, pixel_size=sizes.get(pair.image)) for pair in _by_name(images, labels, folder)]


def _simulated_polarity(record: Path) -> Polarity | None:
    if not record.is_file():
        return None
    polarity = json.loads(record.read_text(encoding="utf-8")).get("polarity")
    return Polarity(polarity) if polarity in (Polarity.DARK, Polarity.BRIGHT) else None


def mask_file(mask: Path, name: str) -> Path:
    """Return the mask of a tomogram: `mask`, or the file in this folder that is named after its outputs.

    Raises
    ------
    InputError
        If the folder holds no such mask.
    """
    if not mask.is_dir():
        return mask
    wanted = {name + ending for ending in _MASK_ENDINGS}
    found = (item.path for item in resolve_inputs([mask], leave_out=None) if item.is_new)
    files = [file for file in found if stem(file) in wanted]
    if not files:
        raise InputError(
            f"{mask}: no mask for {name}, such as {name}_membrane_mask.mrc. Add it, or give another folder."
        )
    return max(files, key=lambda file: len(stem(file)))
