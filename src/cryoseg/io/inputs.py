"""Find the input files that a user names, and choose the names of their outputs."""

from __future__ import annotations

import codecs
import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryoseg.config import Naming
from cryoseg.errors import InputError, reading
from cryoseg.io.images.hdf5 import split_dataset, with_dataset
from cryoseg.io.images.volumes import VOLUME_SUFFIXES, describe_suffixes, is_volume_folder, known_suffix
from cryoseg.io.picks.copick_paths import COPICK_MEMBER, COPICK_SCHEME
from cryoseg.types import ListedImage

# Outputs of cryoseg and of ETSAM's script are not inputs of the next run in the same folder.
OWN_OUTPUTS = re.compile(
    r"_membrane_(mask|logits|uncertainty|post_processed_mask|components)\."
    r"|_etsam_(split_processing_)?predicted_\w*(mask|logits|uncertainty|components)\.",
    re.I,
)

# Every Zarr group of format 2 or 3 contains one of these files.
_ZARR_FILES = (".zgroup", ".zarray", "zarr.json")


@dataclass(frozen=True, kw_only=True)
class InputItem:
    """One entry of a batch.

    Attributes
    ----------
    path
        Path in the spelling of the user; it is a file if `error` is None.
    error
        Sentence for the failed row of the table, which begins with the text that the user gave; or None.
    same_as
        Earlier input that is a link to the same file, or None.
    listed
        Entry of the STAR file that names the input, or None.
    """

    path: Path
    error: str | None = None
    same_as: Path | None = None
    listed: ListedImage | None = None

    @property
    def is_new(self) -> bool:
        """Whether the input is a file that no earlier input names."""
        return self.error is None and self.same_as is None


def resolve_inputs(
    inputs: Sequence[str | Path],
    *,
    suffixes: tuple[str, ...] = VOLUME_SUFFIXES,
    leave_out: re.Pattern[str] | None = OWN_OUTPUTS,
) -> list[InputItem]:
    """Find the files that a command line names.

    Parameters
    ----------
    inputs
        - Files, or `file.h5:/path` for a data set in a file.
        - Folders, of which the files with a known suffix are used, sorted by name, without hidden files and
          subfolders.
        - Quoted glob patterns, in which `**` matches any number of folders; the files with a known suffix
          are used, sorted by name.
        - Lists with the suffix `.txt` (or any file as `@list`). A line is a file, folder or pattern, relative
          to the folder of the list or to the current folder; `#` begins a comment.
        - Tables of RELION (`micrographs.star`, `tomograms.star`), unless `.star` is one of the suffixes.
          Names are relative to a folder above the table.
        - `copick://config.json?run=TS_1&tomogram=wbp@10` for volumes of a copick project.
    suffixes
        Known suffixes in lower case.
    leave_out
        Names that are skipped in folders and patterns but not as single files; None skips no names.

    Returns
    -------
    list of InputItem
        Inputs in the given order, each name once. A missing or empty input has an `error`, and a further link
        to the same file has `same_as`.
    """
    finder = _Finder(suffixes, leave_out)
    items: dict[str, InputItem] = {}
    files: dict[Path, Path] = {}
    for text in inputs:
        for item in finder.find(str(text)):
            name = os.path.abspath(item.path)  # noqa: PTH100, which folds a/../b and follows no link
            if name in items:
                continue
            first = item.path if item.error else files.setdefault(item.path.resolve(), item.path)
            items[name] = item if first == item.path else replace(item, same_as=first)
    return list(items.values())


def is_input(path: Path) -> bool:
    """Whether a path is that of an existing file, volume folder, or data set in a file."""
    return split_dataset(path)[0].is_file() or is_volume_folder(path)


def _volume_around(path: Path) -> Path | None:
    """Return the OME-Zarr volume that contains a path, such as the resolution `a.zarr/1`, or None."""
    return next(
        (
            folder
            for folder in path.parents
            if is_volume_folder(folder) and any((folder / name).is_file() for name in _ZARR_FILES)
        ),
        None,
    )


def _pattern(folder: Path, pattern: Path) -> str:
    """Return a glob pattern in a folder, in which existing folders such as `grid[1]/` are not wildcards."""
    literal, parts = folder, list(pattern.parts)
    while parts and (literal / parts[0]).exists():
        literal /= parts.pop(0)
    return str(Path(glob.escape(str(literal)), *parts))


def _list_entry(line: bytes) -> str:
    """Return the path in a line of a list, without surrounding blanks and quotes and without a comment.

    The line is decoded as file names are, in any locale.
    """
    quoted = re.fullmatch(rb"""\s*(["'])(.+)\1\s*(?:#.*)?""", line)
    return os.fsdecode(quoted[2] if quoted else re.split(rb"(?:^|\s)#", line, maxsplit=1)[0].strip())


def stem(path: Path | str, suffixes: tuple[str, ...] = VOLUME_SUFFIXES) -> str:
    """Return the name without its last known suffix: `ts_1.5A.mrc.gz` gives `ts_1.5A`.

    The name of a volume in a copick project begins with that of its run, such as `TS_1_wbp`.
    """
    path = split_dataset(Path(path))[0]
    if member := COPICK_MEMBER.search(path.as_posix()):
        return f"{member['run']}_{member['name']}"
    suffix = known_suffix(path, suffixes)
    return path.name if suffix is None else path.name[: -len(suffix)]


def etsam_stem(path: Path | str) -> str:
    """Return the name up to the first dot, or the whole name if it begins with a dot.

    Source: jianlin-cheng/ETSAM etsam.py@9ad0d23.
    """
    name = split_dataset(Path(path))[0].name
    return name.split(".", 1)[0] or name


def output_stems(
    paths: Iterable[Path],
    *,
    naming: Naming = Naming.CRYOSEG,
    suffixes: tuple[str, ...] = VOLUME_SUFFIXES,
) -> dict[Path, str]:
    """Return a different stem for the outputs of every input of a batch.

    Equal stems get the names of folders in front until they differ (`grid1_ts_01`, `grid2_ts_01`). Inputs in
    one folder keep their suffix instead (`ts_01_mrc`, `ts_01_rec`). The result does not depend on the order
    of the paths.

    Parameters
    ----------
    paths
        Inputs of the batch.
    naming
        Rule of the names; `etsam` uses the name up to its first dot.
    suffixes
        Known suffixes.
    """
    unique = list(dict.fromkeys(paths))
    candidates = {path: _Candidate(path, naming, suffixes) for path in unique}
    while True:
        groups: defaultdict[str, list[_Candidate]] = defaultdict(list)
        for candidate in candidates.values():
            groups[candidate.name.casefold()].append(candidate)
        crowded = [group for group in groups.values() if len(group) > 1]
        lengthened = [candidate.lengthen(group) for group in crowded for candidate in group]
        if not any(lengthened):
            break
    stems: dict[Path, str] = {}
    taken: set[str] = set()
    for path in sorted(candidates):
        name = base = candidates[path].name
        number = 2
        while name.casefold() in taken:
            name = f"{base}_{number}"
            number += 1
        taken.add(name.casefold())
        stems[path] = name
    return {path: stems[path] for path in unique}


class _Candidate:
    """A stem that is lengthened until no other input has it."""

    def __init__(self, path: Path, naming: Naming, suffixes: tuple[str, ...]) -> None:
        file, inside = split_dataset(path)
        self.folder = file.absolute().parent
        self._short = etsam_stem(path) if naming is Naming.ETSAM else stem(path, suffixes)
        self._plain = stem(path, suffixes)
        self._full = "_".join((file.name, *Path(inside).parts)).replace("/_", "").replace(".", "_")
        self._base = self._short
        self._levels = 0

    @property
    def name(self) -> str:
        parents = self.folder.parts[1:]
        return "_".join((*parents[len(parents) - self._levels :], self._base))

    def lengthen(self, group: list[_Candidate]) -> bool:
        """Add one more word to differ from `group`; return False if there is none."""
        if sum(other.folder == self.folder for other in group) > 1:
            longer = [name for name in (self._plain, self._full) if len(name) > len(self._base)]
            if longer:
                self._base = longer[0]
                return True
        if self._levels < len(self.folder.parts) - 1:
            self._levels += 1
            return True
        return False


class _Finder:
    def __init__(self, suffixes: tuple[str, ...], leave_out: re.Pattern[str] | None) -> None:
        self._suffixes = suffixes
        self._leave_out = leave_out

    def find(self, text: str) -> Iterator[InputItem]:
        name = text.removeprefix("@")
        try:
            if text.startswith(COPICK_SCHEME):
                from cryoseg.io.picks.copick_project import find_members

                yield from (InputItem(path=path) for path in find_members(text))
            elif name != text or text.lower().endswith(".txt"):
                yield from self._list(expand_home(name))
            elif self._is_star_list(text) and not glob.has_magic(text):
                yield from self._star(expand_home(text))
            else:
                yield from self._entry(text, [Path()])
        except InputError as error:
            yield InputItem(path=Path(name), error=str(error))

    def _entry(self, text: str, folders: list[Path]) -> Iterator[InputItem]:
        """Yield the files of a name, folder or pattern relative to the first of `folders` that has it."""
        try:
            entry = expand_home(text)
        except InputError as error:
            yield InputItem(path=Path(text), error=str(error))
            return
        for folder in folders:
            path = folder / entry
            try:
                if (volume := _volume_around(path)) is not None:
                    advice = f"Give {volume}, whose finest resolution is read."
                    yield InputItem(path=path, error=f"{path}: is a part of {volume}. {advice}")
                    return
                if path.is_dir() and not is_volume_folder(path):
                    yield from self._folder(path)
                    return
                file = path if path.exists() else split_dataset(path)[0]
                if file.exists():
                    empty = file.is_file() and file.stat().st_size == 0
                    yield InputItem(
                        path=path, error=f"{path}: the file is empty (0 bytes)." if empty else None
                    )
                    return
            except (OSError, ValueError) as error:
                yield InputItem(path=path, error=f"{text!r}: cannot be read ({error}).")
                return
        if glob.has_magic(text):
            files, inside = split_dataset(entry)
            for folder in folders:
                pattern = _pattern(folder, files)
                if found := self._known(Path(match) for match in glob.glob(pattern, recursive=True)):  # noqa: PTH207
                    yield from (InputItem(path=with_dataset(path, inside)) for path in found)
                    return
            yield InputItem(path=entry, error=f"{text}: no file with {self._wanted()} matches.")
            return
        yield InputItem(path=entry, error=f"{text}: no such file or folder. Check the name.")

    def _folder(self, folder: Path) -> Iterator[InputItem]:
        found = self._known(folder.iterdir())
        if not found:
            yield InputItem(path=folder, error=f"{folder}: the folder holds no file with {self._wanted()}.")
        yield from (InputItem(path=path) for path in found)

    def _known(self, paths: Iterable[Path]) -> list[Path]:
        return sorted(
            path
            for path in paths
            if known_suffix(path, self._suffixes)
            and not path.name.startswith(".")
            and not (self._leave_out is not None and self._leave_out.search(path.name))
            and (path.is_file() or is_volume_folder(path))
        )

    def _wanted(self) -> str:
        return f"one of the suffixes {describe_suffixes(self._suffixes)}"

    def _list(self, path: Path) -> Iterator[InputItem]:
        with reading(path):
            content = path.read_bytes()
        if b"\0" in content:
            raise InputError(f"{path}: the list is no text (UTF-8). Give one path a line.")
        lines = content.removeprefix(codecs.BOM_UTF8).splitlines()
        entries = [entry for line in lines if (entry := _list_entry(line))]
        if not entries:
            raise InputError(f"{path}: the list names no file. Give one path a line.")
        for entry in entries:
            if entry.lower().endswith(".txt") or self._is_star_list(entry):
                yield InputItem(
                    path=Path(entry), error=f"{entry}: a list inside the list {path}. Give its paths instead."
                )
            else:
                yield from self._entry(entry, list(dict.fromkeys((path.parent, Path()))))

    def _is_star_list(self, text: str) -> bool:
        return text.lower().endswith(".star") and ".star" not in self._suffixes

    def _star(self, path: Path) -> Iterator[InputItem]:
        """Yield the images of a STAR file in its order, each once."""
        from cryoseg.io.picks.relion_images import read_image_list  # This imports pandas.

        images = read_image_list(path)
        # RELION writes names relative to the project, below which the STAR file, or what it links to, lies.
        folders = [*path.parents, *path.absolute().parents, *path.resolve().parents, Path()]
        for image in images:
            folder = next((folder for folder in folders if is_file(folder / image.name)), None)
            if folder is None:
                missing = (
                    f"{image.name}: no such file in {path.parent} or a folder above it, which {path} names."
                )
                yield InputItem(path=Path(image.name), error=missing)
            else:
                listed = replace(image, project=folder)
                for item in self._entry(str(folder / image.name), [Path()]):
                    yield replace(item, listed=listed)


def listed_pixel_sizes(items: Iterable[InputItem]) -> dict[Path, float]:
    """Return the pixel sizes in angstrom that STAR files give, by path of the input."""
    return {
        item.path: item.listed.pixel_size
        for item in items
        if item.listed is not None and item.listed.pixel_size is not None
    }


def expand_home(text: str | Path) -> Path:
    """Replace a leading `~` or `~user` by the home folder, as a shell does.

    An `InputError` is raised if the user has no home folder, or for a null character, which no file name may
    contain. `~name` of an unknown user is a file name.
    """
    if "\0" in str(text):
        raise InputError(f"{str(text)!r}: contains a null character. Check the name.")
    expanded = os.path.expanduser(text)  # noqa: PTH111, Path's own refuses ~unknown
    if str(expanded).startswith("~/") or str(expanded) == "~":
        raise InputError(f"{text}: HOME is not set, and no home folder is known. Write the path in full.")
    return Path(expanded)


def is_file(path: Path) -> bool:
    """Whether a path is a file that this user may access."""
    return os.path.isfile(path)  # noqa: PTH113, Path's own raises PermissionError
