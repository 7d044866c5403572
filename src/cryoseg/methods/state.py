"""Read tensors from a file and load them into a module strictly."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoseg.errors import WeightsError
from cryoseg.io.web.weight_files import Kind, read_safetensors_header, require_kind

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

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


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_safetensors_header(path)
    try:
        return load_file(path, device="cpu")
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
    """Copy tensors into a module; all names and shapes must agree.

    Values are converted to the data type of the module.

    Parameters
    ----------
    module
        Module that receives the tensors.
    state
        Tensors by parameter name.
    source
        Origin of the tensors, for the error message.

    Raises
    ------
    WeightsError
        If tensors are missing, unexpected or of another shape.
    """
    wanted = module.state_dict()
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
    module.load_state_dict(state, strict=True)
