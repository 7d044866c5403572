"""The table of known weights, and the search for their files.

`cryoseg.pipelines.data.weights` downloads files, and `cryoseg.methods.model_file` loads them.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryoseg.errors import InputError, WeightsError
from cryoseg.io.inputs import expand_home, is_file

CHECKPOINTS_VARIABLE = "CRYOSEG_CHECKPOINTS"
# Folders in which ETSAM 2.x keeps its checkpoints.
ETSAM_VARIABLE = "ETSAM_CHECKPOINT_DIR"
ETSAM_CACHE = "~/.cache/etsam"
# Environment variable and default of the cache folder by platform; others follow XDG.
_CACHES = {"win32": ("LOCALAPPDATA", "~/AppData/Local"), "darwin": ("", "~/Library/Caches")}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One published or bundled file.

    Attributes
    ----------
    name
        Name on the command line.
    file_name
        Published name of the file.
    purpose
        Description for the table of weights.
    url
        Address of the file; empty for a bundled file.
    md5, sha256
        Published digests; None if `record_url` lists them or there are none.
    size
        Size in bytes for display; None if it is not known.
    licence, paper
        Licence and paper as the publisher states them.
    source
        Web page of the weights.
    record_url
        JSON record of the publisher (Zenodo) that lists digests.
    hub
        Repository and file on the Hugging Face hub.
    """

    name: str
    file_name: str
    purpose: str
    licence: str
    paper: str
    source: str
    url: str = ""
    md5: str | None = None
    sha256: str | None = None
    size: int | None = None
    record_url: str | None = None
    hub: tuple[str, str] | None = None

    @property
    def bundled(self) -> bool:
        """Whether the package contains the file."""
        return not self.url


def _etsam(stage: int) -> Weights:
    # Source: jianlin-cheng/ETSAM README.md@b859060 and Zenodo record 17571925.
    file_name = f"etsam_stage{stage}_v1.pt"
    return Weights(
        name=f"etsam_stage{stage}",
        file_name=file_name,
        purpose=f"ETSAM membrane segmentation, stage {stage}",
        licence="CC BY 4.0 (see the Zenodo record)",
        paper="ETSAM, 2025",
        source="https://zenodo.org/records/17571925",
        url=f"https://zenodo.org/records/17571925/files/{file_name}",
        record_url="https://zenodo.org/api/records/17571925",
    )


def _sam(letter: str, size: str, *, md5: str, n_bytes: int) -> Weights:
    # Source: segment-anything's README; its file names carry the first six digits of the MD5.
    file_name = f"sam_vit_{letter}_{md5[:6]}.pth"
    return Weights(
        name=f"sam_vit_{letter}",
        file_name=file_name,
        purpose=f"Segment Anything, ViT-{size}",
        licence="Apache-2.0",
        paper="Segment Anything, 2023",
        source="https://github.com/facebookresearch/segment-anything",
        url=f"https://dl.fbaipublicfiles.com/segment_anything/{file_name}",
        md5=md5,
        size=n_bytes,
    )


def _sam2(size: str, *, sha256: str, n_bytes: int) -> Weights:
    # Source: sam2.build_sam.HF_MODEL_ID_TO_FILENAMES. The SHA-256 is the hub's own content address,
    # which a download compares again.
    file_name = f"sam2.1_hiera_{size}.pt"
    repository = f"facebook/sam2.1-hiera-{size.replace('_', '-')}"
    return Weights(
        name=f"sam2.1_hiera_{size}",
        file_name=file_name,
        purpose=f"SAM 2.1, Hiera {size.replace('_', ' ')}; start of training",
        licence="Apache-2.0",
        paper="SAM 2, 2024",
        source=f"https://huggingface.co/{repository}",
        url=f"https://huggingface.co/{repository}/resolve/main/{file_name}",
        sha256=sha256,
        size=n_bytes,
        hub=(repository, file_name),
    )


def _ours(name: str, *, purpose: str, source: str) -> Weights:
    return Weights(
        name=name,
        file_name=f"{name}.safetensors",
        purpose=purpose,
        licence="Apache-2.0",
        paper="this project",
        source=source,
    )


WEIGHTS: dict[str, Weights] = {
    entry.name: entry
    for entry in (
        _ours(
            "membrane_tiny",
            purpose="bundled membrane segmentation, both stages",
            source="trained by this repository on simulated tomograms",
        ),
        _ours(
            "particle_mixed",
            purpose="bundled particle picking in micrographs, what `pick` takes by default",
            source="particle_tiny, fine-tuned by this repository on simulated micrographs and on published "
            "ones of EMPIAR-10017, EMPIAR-10028 and EMPIAR-10146",
        ),
        _ours(
            "particle_tiny",
            purpose="bundled small SAM to adapt to particles, and to pick with",
            source="trained by this repository on simulated micrographs",
        ),
        _etsam(1),
        _etsam(2),
        _sam("h", "H", md5="4b8939a88964f0f4ff5f5b2642c598a6", n_bytes=2_564_550_879),
        _sam("l", "L", md5="0b3195507c641ddb6910d2bb5adee89c", n_bytes=1_249_524_607),
        _sam("b", "B", md5="01ec64d29a2fca3f0661936605ae66f8", n_bytes=375_042_383),
        _sam2(
            "tiny",
            sha256="7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
            n_bytes=156_008_466,
        ),
        _sam2(
            "small",
            sha256="6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
            n_bytes=184_416_285,
        ),
        _sam2(
            "base_plus",
            sha256="a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
            n_bytes=323_606_802,
        ),
        _sam2(
            "large",
            sha256="2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
            n_bytes=898_083_611,
        ),
    )
}

GROUPS: dict[str, tuple[str, ...]] = {
    "bundled": tuple(name for name, entry in WEIGHTS.items() if entry.bundled),
    "etsam": ("etsam_stage1", "etsam_stage2"),
    "sam": ("sam_vit_h", "sam_vit_l", "sam_vit_b"),
    "sam2.1": ("sam2.1_hiera_tiny", "sam2.1_hiera_small", "sam2.1_hiera_base_plus", "sam2.1_hiera_large"),
}

# Names of earlier bundled models, and the key of what replaces each.
REPLACED = {"particle_empiar10017": "particle_mixed"}


def canonical_name(name: str) -> str | None:
    """Return the key of `WEIGHTS` for a name in any spelling or a file name; None if it is unknown."""
    plain = name.lower().replace("-", "_")
    plain = REPLACED.get(plain, plain)
    for key, entry in WEIGHTS.items():
        if plain in {key, entry.file_name.lower().replace("-", "_")}:
            return key
    return None


def expand_names(names: list[str]) -> list[str]:
    """Return the keys of `WEIGHTS` for names and groups such as `etsam`, each once."""
    keys: list[str] = []
    for name in names:
        key = canonical_name(name)
        members = GROUPS.get(name.lower().replace("-", "_"), ()) if key is None else (key,)
        if not members:
            raise WeightsError(f"{name}: unknown weights; use one of {', '.join([*WEIGHTS, *GROUPS])}.")
        keys.extend(members)
    return list(dict.fromkeys(keys))


def package_folder() -> Path:
    """Return the folder of the bundled weights."""
    return Path(__file__).resolve().parents[1] / "weights"


def cache_folder() -> Path:
    """Return the user's cache folder for cryoseg on this platform, which may not exist."""
    variable, default = _CACHES.get(sys.platform, ("XDG_CACHE_HOME", "~/.cache"))
    return expand_home(os.environ.get(variable) or default) / "cryoseg"


def search_path(*, checkpoints_dir: Path | None = None) -> dict[str, Path]:
    """Return the folders to search for weights, in order, by their description."""
    folders: dict[str, Path] = {}
    if checkpoints_dir is not None:
        folders["--checkpoints-dir"] = expand_home(checkpoints_dir)
    if variable := os.environ.get(CHECKPOINTS_VARIABLE):
        folders[CHECKPOINTS_VARIABLE] = expand_home(variable)
    if variable := os.environ.get(ETSAM_VARIABLE):
        folders[ETSAM_VARIABLE] = expand_home(variable)
    folders["./checkpoints"] = Path("checkpoints").absolute()
    with suppress(InputError):  # bundled weights need no home folder
        folders["user cache"] = cache_folder()
        folders["cache of ETSAM"] = expand_home(ETSAM_CACHE)
    folders["package"] = package_folder()
    return folders


def download_folder(*, checkpoints_dir: Path | None = None) -> Path:
    """Return the folder for downloads: `--checkpoints-dir`, `CRYOSEG_CHECKPOINTS` or the user's cache."""
    folders = search_path(checkpoints_dir=checkpoints_dir)
    return folders.get("--checkpoints-dir") or folders.get(CHECKPOINTS_VARIABLE) or cache_folder()


def locate(name: str, *, checkpoints_dir: Path | None = None) -> Path | None:
    """Find the file of known weights in the folders of `search_path`; None if it is in none."""
    entry = lookup(name)
    for folder in search_path(checkpoints_dir=checkpoints_dir).values():
        candidate = folder / entry.file_name
        if is_file(candidate):
            return candidate
    return None


def require(name: str, *, checkpoints_dir: Path | None = None) -> Path:
    """Find the file of known weights, or raise a `WeightsError` that says how to get it."""
    path = locate(name, checkpoints_dir=checkpoints_dir)
    if path is not None:
        return path
    entry = lookup(name)
    folders = search_path(checkpoints_dir=checkpoints_dir)
    looked = ", ".join(f"{folder} ({label})" for label, folder in folders.items())
    if entry.bundled:
        fix = "it belongs to the package, so install cryoseg again"
    else:
        folder = download_folder(checkpoints_dir=checkpoints_dir)
        fix = (
            f"run `cryoseg weights download {entry.name}`, "
            f"or get {entry.url} and put it at {folder / entry.file_name}"
        )
    raise WeightsError(f"{entry.file_name}: weights {entry.name} not found in {looked}; {fix}.")


def find_weights(name_or_path: str | Path, *, checkpoints_dir: Path | None = None) -> Path:
    """Return a file of weights, given by its path or by the name of known weights."""
    path = expand_home(name_or_path)
    if is_file(path):
        return path
    if canonical_name(str(name_or_path)) is None:
        raise WeightsError(
            f"{name_or_path}: is neither a file nor the name of known weights; give a file, or one of "
            f"{', '.join(WEIGHTS)}."
        )
    return require(str(name_or_path), checkpoints_dir=checkpoints_dir)


def lookup(name: str) -> Weights:
    """Return the entry of a name in any accepted spelling; raise a `WeightsError` if it is unknown."""
    key = canonical_name(name)
    if key is None:
        raise WeightsError(f"{name}: unknown weights; use one of {', '.join(WEIGHTS)}.")
    return WEIGHTS[key]


def by_hand(entry: Weights, destination: Path) -> str:
    """Return a sentence that says how to put a file in place without a network."""
    return (
        f"By hand: get {entry.url} on any machine, put it at {destination}, "
        f"and run `cryoseg weights verify {entry.name}`."
    )
