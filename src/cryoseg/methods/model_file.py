"""Read weights strictly, and read and write the model files of cryoseg.

The header of a model file, a safetensors file, has a single metadata entry, `cryoseg`: a JSON object with the
format version, the method, its settings and thresholds, and the model card. A single entry makes equal models
equal bytes, since safetensors writes several entries in random order. The names of tensors of a two-stage
model start with `stage1.` and `stage2.`.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cryoseg.errors import WeightsError
from cryoseg.io.outputs import atomic_output
from cryoseg.io.records import hash_file
from cryoseg.io.web.weight_files import Kind, read_safetensors_header, require_kind

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

MODEL_FORMAT = 1
_ENTRY = "cryoseg"
_SHOWN = 3


def load_state_dict(path: Path, *, key: str = "model") -> dict[str, Tensor]:
    """Read the named tensors of a checkpoint to the CPU.

    Parameters
    ----------
    path
        A torch file with the entry `key`, as ETSAM writes it, or with tensors only; or a safetensors file.
    key
        Entry of a torch file that contains the tensors.

    Returns
    -------
    dict
        Tensors as stored, memory-mapped where the format allows. The prefixes of
        DistributedDataParallel (`module.`) and torch.compile (`_orig_mod.`) are removed from names.

    Raises
    ------
    WeightsError
        If the file is missing, empty, truncated, an error page, a pickle that would run code, or
        contains no tensors.
    """
    kind = require_kind(path)
    if kind is Kind.SAFETENSORS:
        return _without_wrappers(_load_safetensors(path))
    content = _load_torch(path, mmap=kind is Kind.TORCH_ZIP)
    if not isinstance(content, dict):
        raise WeightsError(
            f'{path}: contains a {type(content).__name__}, not a checkpoint {{"{key}": tensors}}.'
        )
    state = content.get(key, content)
    if not _is_state(state):
        found = ", ".join(str(name) for name in list(content)[:8]) or "nothing"
        raise WeightsError(
            f'{path}: has no tensors under the key "{key}" (found: {found}); '
            f'save it as {{"{key}": model.state_dict()}}.'
        )
    return _without_wrappers(state)


def _without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    plain = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
    while plain and all(name.startswith("module.") for name in plain):
        plain = {name.removeprefix("module."): tensor for name, tensor in plain.items()}
    return plain


def _is_state(value: Any) -> bool:
    import torch

    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items())
    )


def _load_safetensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Read the tensors whose names begin with a prefix, which is removed."""
    from safetensors import SafetensorError, safe_open

    names = [name for name in read_safetensors_header(path) if name != "__metadata__"]
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            return {
                name.removeprefix(prefix): stored.get_tensor(name)
                for name in names
                if name.startswith(prefix)
            }
    except SafetensorError as error:
        raise WeightsError(f"{path}: the safetensors file is damaged ({error}); get it again.") from None


def _load_torch(path: Path, *, mmap: bool) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        name = re.search(r"(?:GLOBAL|global|class)\s+([\w.]+\.[\w.]+)", str(error))
        if name is None and "weights_only" not in str(error) and "Weights only" not in str(error):
            raise _damaged(path) from None
        what = f"names {name[1]}" if name else "contains more than tensors"
        raise WeightsError(
            f"{path}: is a pickle that {what}, which would run code when loaded; refused. "
            "Save the tensors alone (torch.save of a state dict, or safetensors)."
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # torch reports a broken file by a dozen types, from EOFError to KeyError
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path}: is a TorchScript program, not a checkpoint; save the state dict of its model."
            ) from None
        raise _damaged(path) from None


def _damaged(path: Path) -> WeightsError:
    size = path.stat().st_size
    return WeightsError(f"{path}: the torch file ({size} bytes) is truncated or damaged; get it again.")


def load_strict(module: Module, state: dict[str, Tensor], source: Path | str) -> None:
    """Copy tensors by parameter name into a module, and convert them to the data type of the module.

    The names and shapes must agree as in `require_fit`.
    """
    require_fit(module.state_dict(), state, source)
    module.load_state_dict(state, strict=True)


def require_fit(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], source: Path | str) -> None:
    """Raise a `WeightsError` if two sets of tensors differ in names or shapes.

    The message names the `source` of the tensors, and those that are missing, unexpected or of another shape.
    """
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems = [
        f"{len(names)} {label} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for label, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{source}: does not fit the model: of {len(wanted)} tensors {'; '.join(problems)}. "
            "Give the weights that belong to this model, or the config that they were trained with."
        )


def write_model_file(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    *,
    precision: Literal["as-is", "float16", "float32"] = "as-is",
) -> str:
    """Write a packaged model and return its SHA-256.

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

    Raises
    ------
    WeightsError
        If a tensor is not finite in this precision, or the metadata are not JSON.
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
    return hash_file(path)


def is_model_file(path: Path) -> bool:
    """Whether a file is a model file of cryoseg, of any format version."""
    try:
        return require_kind(path) is Kind.SAFETENSORS and _ENTRY in _metadata(path)
    except WeightsError:
        return False


_FOR_SEGMENT = (
    "give a stage of ETSAM to `cryoseg segment` with --stage1-checkpoint or --stage2-checkpoint and its "
    "--sam2-config."
)


def _metadata(path: Path) -> dict[str, Any]:
    metadata = read_safetensors_header(path).get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}


def read_model_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a packaged model from its header, with the format version as `cryoseg`.

    A `WeightsError` is raised if the file is damaged, is no packaged model, or has an unknown format version.
    """
    if require_kind(path) is not Kind.SAFETENSORS:
        raise WeightsError(f"{path}: is a torch checkpoint, not a packaged model; {_FOR_SEGMENT}")
    text = _metadata(path).get(_ENTRY)
    if text is None:
        raise WeightsError(f"{path}: contains tensors but no cryoseg metadata; {_FOR_SEGMENT}")
    try:
        metadata = json.loads(text)
        version, method = metadata[_ENTRY], metadata["method"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise WeightsError(
            f"{path}: its cryoseg metadata are damaged; get or export the model again."
        ) from None
    if version != MODEL_FORMAT:
        raise WeightsError(
            f"{path}: has model format {version!r} and this cryoseg reads {MODEL_FORMAT}; "
            "upgrade cryoseg, or export the model again with this version."
        )
    if not isinstance(method, str):
        raise WeightsError(f"{path}: its cryoseg metadata name no method; export the model again.")
    return dict(metadata)


def read_model_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Read the tensors of a packaged model to the CPU.

    With a `prefix` such as `stage1.`, only tensors with it are read, and it is removed from their names.
    """
    read_model_metadata(path)
    tensors = _load_safetensors(path, prefix)
    if not tensors:
        groups = sorted({name.split(".")[0] for name in _load_safetensors(path)})
        raise WeightsError(
            f"{path}: contains no tensors {prefix}*; it contains {', '.join(groups) or 'none at all'}."
        )
    return tensors
