"""Fixtures of the tests of the command line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained packaged model, whose masks are meaningless."""
    import torch  # most tests of the command line need no network

    from cryoseg.methods.membrane_tiny.network import CONFIG, METHOD, MembraneRecipe, build_stage
    from cryoseg.methods.model_file import write_model_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    tensors = {
        f"stage{stage}.{name}": value
        for stage in (1, 2)
        for name, value in build_stage(stage, 64).state_dict().items()
    }
    metadata = {
        "method": METHOD,
        "network": CONFIG,
        "recipe": asdict(MembraneRecipe()),
        "logit_threshold": 0.0,
    }
    write_model_file(path, tensors, metadata, precision="float16")
    return path
