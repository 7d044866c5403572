"""cryoseg's own model file: one safetensors file that carries its recipe and card.

The header holds a single metadata entry, `cryoseg`, with a JSON object: the format version, the
method, the SAM2 config as text, preprocessing, thresholds, and the card. One entry, not many,
because safetensors writes several in random order and the same model should be the same bytes.
A two-stage model in one file prefixes its tensors with `stage1.` and `stage2.`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cryoseg.errors import OutputError, WeightsError
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
    """Write a packaged model under a temporary name, then rename it.

    Parameters
    ----------
    path
        Ends in `.safetensors`; replaced if it exists.
    tensors
        By parameter name, with the prefixes `stage1.` and `stage2.` where both stages share a file.
    metadata
        JSON values: `method` is required; `stage`, `config`, `preprocessing`, `logit_threshold`
        and `card` are usual. The format version, key `cryoseg`, is added.
    precision
        Data type of the floating-point tensors in the file.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    WeightsError
        If a tensor is not finite in the asked precision, or the metadata are no JSON.
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(save(stored, metadata={_ENTRY: text}))
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}).") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return file_digests(path)["sha256"]


def is_model_file(path: Path) -> bool:
    """Whether a file is a safetensors file with cryoseg's card, of any format version."""
    try:
        return require_kind(path) is Kind.SAFETENSORS and _ENTRY in _metadata(path)
    except WeightsError:
        return False


def _metadata(path: Path) -> dict[str, Any]:
    metadata = read_safetensors_header(path).get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}


def read_model_metadata(path: Path) -> dict[str, Any]:
    """Recipe and card of a packaged model, from the header alone.

    Returns
    -------
    dict
        As given to `write_model_file`, with the format version under `cryoseg`.

    Raises
    ------
    WeightsError
        If the file is no packaged model, is damaged, or has a format this version cannot read.
    """
    if require_kind(path) is not Kind.SAFETENSORS:
        raise WeightsError(
            f"{path}: is a torch checkpoint, not a packaged model; give it as --stage1-checkpoint or "
            "--stage2-checkpoint with its --sam2-config."
        )
    text = _metadata(path).get(_ENTRY)
    if text is None:
        raise WeightsError(
            f"{path}: holds tensors but no cryoseg card; give it as --stage1-checkpoint or "
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
    """Tensors of a packaged model, on the CPU, as stored.

    Parameters
    ----------
    path
        The model file.
    prefix
        Only tensors whose name begins so, with the prefix cut off; `stage1.` for example.

    Raises
    ------
    WeightsError
        As `read_model_metadata`; also if no tensor has the prefix.
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
        raise WeightsError(f"{path}: holds no tensors {cut}*; it holds {', '.join(groups) or 'none at all'}.")
    return tensors
