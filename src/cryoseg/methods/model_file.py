"""Model files of cryoseg: safetensors files with a recipe and a model card.

The header has a single metadata entry, `cryoseg`: a JSON object with the format version, the method, its
settings, thresholds and the card. A single entry makes equal models equal bytes, since safetensors writes
several entries in random order. The names of tensors of a two-stage model start with `stage1.` and `stage2.`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cryoseg.errors import WeightsError
from cryoseg.io.outputs import atomic_output
from cryoseg.io.web.weight_files import Kind, file_digests, read_safetensors_header, require_kind

if TYPE_CHECKING:
    from torch import Tensor

MODEL_FORMAT = 1
_ENTRY = "cryoseg"


def write_model_file(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    *,
    precision: Literal["as-is", "float16", "float32"] = "as-is",
) -> str:
    """Write a packaged model.

    Parameters
    ----------
    path
        Path with the suffix `.safetensors`; an existing file is replaced.
    tensors
        Tensors by name.
    metadata
        JSON values, of which `method` is required. The format version is added as `cryoseg`.
    precision
        Data type of the floating-point tensors in the file.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    WeightsError
        If a tensor is not finite in this precision, or the metadata are not JSON.
    OutputError
        If the file cannot be written.
    """
    import torch
    from safetensors.torch import save

    if not isinstance(metadata.get("method"), str):
        raise WeightsError(f"{path}: the metadata of a model file need the name of its method.")
    try:
        text = json.dumps({**metadata, _ENTRY: MODEL_FORMAT}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path}: the metadata are not plain JSON ({error}).") from None
    dtype = {"as-is": None, "float16": torch.float16, "float32": torch.float32}[precision]
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach().to("cpu", copy=True).contiguous()
        if value.is_floating_point():
            value = value.to(dtype or value.dtype)
            if not torch.isfinite(value).all():
                raise WeightsError(f"{path}: tensor {name} is not finite in {value.dtype}; keep float32.")
        stored[name] = value
    with atomic_output(path, overwrite=True) as temporary:
        temporary.write_bytes(save(stored, metadata={_ENTRY: text}))
    return file_digests(path)["sha256"]


def is_model_file(path: Path) -> bool:
    """Whether a file is a model file of cryoseg, of any format version."""
    try:
        return require_kind(path) is Kind.SAFETENSORS and _ENTRY in _metadata(path)
    except WeightsError:
        return False


def _metadata(path: Path) -> dict[str, Any]:
    metadata = read_safetensors_header(path).get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}


def read_model_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a packaged model from its header.

    Returns
    -------
    dict
        Metadata that `write_model_file` got, with the format version as `cryoseg`.

    Raises
    ------
    WeightsError
        If the file is damaged, is not a packaged model, or has an unknown format version.
    """
    if require_kind(path) is not Kind.SAFETENSORS:
        raise WeightsError(
            f"{path}: is a torch checkpoint, not a packaged model; give it as --stage1-checkpoint or "
            "--stage2-checkpoint with its --sam2-config."
        )
    text = _metadata(path).get(_ENTRY)
    if text is None:
        raise WeightsError(
            f"{path}: contains tensors but no cryoseg metadata; give it as --stage1-checkpoint or "
            "--stage2-checkpoint with its --sam2-config."
        )
    try:
        metadata = json.loads(text)
        version, method = metadata[_ENTRY], metadata["method"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise WeightsError(f"{path}: its cryoseg card is damaged; get or export the model again.") from None
    if version != MODEL_FORMAT:
        raise WeightsError(
            f"{path}: has model format {version!r} and this cryoseg reads {MODEL_FORMAT}; "
            "upgrade cryoseg, or export the model again with this version."
        )
    if not isinstance(method, str):
        raise WeightsError(f"{path}: its cryoseg card names no method; export the model again.")
    return dict(metadata)


def read_model_tensors(path: Path, prefix: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a packaged model to the CPU.

    Parameters
    ----------
    path
        Model file.
    prefix
        Prefix such as `stage1.` of the tensors to read, which is removed from their names; None for all.

    Raises
    ------
    WeightsError
        If the file is damaged or not a packaged model, or no tensor has the prefix.
    """
    from safetensors import SafetensorError, safe_open

    read_model_metadata(path)
    cut = prefix or ""
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            names = list(stored.keys())
            tensors = {
                name.removeprefix(cut): stored.get_tensor(name) for name in names if name.startswith(cut)
            }
    except SafetensorError as error:
        raise WeightsError(f"{path}: the safetensors file is damaged ({error}); get it again.") from None
    if not tensors:
        groups = sorted({name.split(".")[0] for name in names})
        raise WeightsError(
            f"{path}: contains no tensors {cut}*; it contains {', '.join(groups) or 'none at all'}."
        )
    return tensors
