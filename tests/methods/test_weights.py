"""Search order, loading, strictness and the packaged model file."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cryoseg.errors import OutputError, WeightsError
from cryoseg.io.web.weight_files import (
    Kind,
    check_structure,
    file_digests,
    record_sha256,
    recorded_sha256,
    sidecar_path,
    sniff,
)
from cryoseg.methods.model_file import (
    is_model_file,
    load_state_dict,
    load_strict,
    read_model_metadata,
    read_model_tensors,
    write_model_file,
)
from cryoseg.methods.weights import (
    GROUPS,
    WEIGHTS,
    canonical_name,
    download_folder,
    expand_names,
    locate,
    package_folder,
    require,
    search_path,
)

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.tensor([0.5, -1.0])}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home and working folder, so that nothing on this machine is found."""
    monkeypatch.delenv("CRYOSEG_CHECKPOINTS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


# --- the table ----------------------------------------------------------------------------------


def test_table_is_consistent():
    for name, entry in WEIGHTS.items():
        assert entry.name == name == canonical_name(name)
        assert canonical_name(entry.file_name) == name
        assert entry.licence
        assert entry.source
        assert entry.bundled or entry.url.startswith("https://")
        assert entry.bundled or entry.url.endswith("/" + entry.file_name)
        assert entry.md5 is None or len(entry.md5) == 32
        assert entry.sha256 is None or len(entry.sha256) == 64
        # An unchecked download must not be possible: a digest here, in a record, or on the hub.
        assert entry.bundled or entry.md5 or entry.sha256 or entry.record_url
    assert len({entry.file_name for entry in WEIGHTS.values()}) == len(WEIGHTS)
    assert {member for members in GROUPS.values() for member in members} == set(WEIGHTS)


def test_sam_file_names_carry_their_md5():
    assert WEIGHTS["sam_vit_h"].file_name == "sam_vit_h_4b8939.pth"
    assert WEIGHTS["sam_vit_l"].file_name == "sam_vit_l_0b3195.pth"
    assert WEIGHTS["sam_vit_b"].file_name == "sam_vit_b_01ec64.pth"


def test_hub_names_are_those_of_sam2():
    build_sam = pytest.importorskip("sam2.build_sam")
    known = {repo: file_name for repo, (_, file_name) in build_sam.HF_MODEL_ID_TO_FILENAMES.items()}
    for entry in WEIGHTS.values():
        if entry.hub is not None:
            assert known[entry.hub[0]] == entry.hub[1] == entry.file_name


def test_names_and_groups():
    assert canonical_name("ETSAM-Stage1") == "etsam_stage1"
    assert canonical_name("particle-empiar10017") == "particle_mixed"  # an earlier bundled model
    assert canonical_name("nothing") is None
    assert expand_names(["etsam", "etsam_stage2", "sam-vit-b"]) == [
        "etsam_stage1",
        "etsam_stage2",
        "sam_vit_b",
    ]
    with pytest.raises(WeightsError, match=r"resnet: unknown weights; use one of .*etsam_stage1.*sam2\.1"):
        expand_names(["resnet"])


# --- the search ---------------------------------------------------------------------------------


def test_search_order(home, monkeypatch):
    monkeypatch.setenv("CRYOSEG_CHECKPOINTS", str(home / "env"))
    monkeypatch.setenv("ETSAM_CHECKPOINT_DIR", str(home / "etsam"))
    folders = search_path(checkpoints_dir=home / "option")
    assert list(folders) == [
        "--checkpoints-dir",
        "CRYOSEG_CHECKPOINTS",
        "ETSAM_CHECKPOINT_DIR",
        "./checkpoints",
        "user cache",
        "cache of ETSAM",
        "package",
    ]
    assert folders["./checkpoints"] == home / "work" / "checkpoints"
    assert folders["cache of ETSAM"] == Path("~/.cache/etsam").expanduser()
    assert folders["package"] == package_folder()
    # Filled from the last to the first, each find replaces the one before.
    for label in reversed(list(folders)[:-1]):
        folders[label].mkdir(parents=True)
        (folders[label] / "etsam_stage1_v1.pt").write_bytes(b"PK\x03\x04")
        assert (
            locate("etsam_stage1", checkpoints_dir=home / "option") == folders[label] / "etsam_stage1_v1.pt"
        )


def test_downloads_go_to_the_option_the_variable_or_the_cache(home, monkeypatch):
    assert download_folder() == search_path()["user cache"]
    monkeypatch.setenv("CRYOSEG_CHECKPOINTS", str(home / "env"))
    assert download_folder() == home / "env"
    assert download_folder(checkpoints_dir=home / "option") == home / "option"


def test_missing_weights_say_everything(home):
    assert locate("etsam_stage1") is None
    with pytest.raises(WeightsError) as caught:
        require("etsam_stage1", checkpoints_dir=home / "option")
    text = str(caught.value)
    for part in (
        "etsam_stage1_v1.pt",
        f"{home / 'option'} (--checkpoints-dir)",
        f"{home / 'work' / 'checkpoints'} (./checkpoints)",
        "cryoseg weights download etsam_stage1",
        "https://zenodo.org/records/17571925/files/etsam_stage1_v1.pt",
        str(home / "option" / "etsam_stage1_v1.pt"),
    ):
        assert part in text
    assert "\n" not in text
    with pytest.raises(WeightsError, match="unknown weights"):
        locate("resnet")


def test_a_folder_of_that_name_is_not_the_file(home):
    (home / "option" / "etsam_stage1_v1.pt").mkdir(parents=True)
    assert locate("etsam_stage1", checkpoints_dir=home / "option") is None


# --- digests ------------------------------------------------------------------------------------


def test_digests_and_sidecar(tmp_path):
    path = tmp_path / "w.pt"
    path.write_bytes(b"abc")
    # Source: the test vectors of RFC 1321 and FIPS 180-2 for "abc".
    assert file_digests(path, ("md5", "sha256")) == {
        "md5": "900150983cd24fb0d6963f7d28e17f72",
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
    assert recorded_sha256(path) is None
    assert record_sha256(path) == recorded_sha256(path) == hashlib.sha256(b"abc").hexdigest()
    assert sidecar_path(path).read_text() == f"{hashlib.sha256(b'abc').hexdigest()}  w.pt\n"
    sidecar_path(path).write_bytes(b"\xff nonsense")
    assert recorded_sha256(path) is None


# --- loading ------------------------------------------------------------------------------------


def test_etsam_form_with_training_state(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": STATE, "optimizer": {"lr": [1e-3]}, "epoch": 3, "scaler": None}, path)
    loaded = load_state_dict(path)
    assert set(loaded) == set(STATE)
    assert all(torch.equal(loaded[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_wrappers_of_the_training_leave_no_trace_in_names(tmp_path, prefix, suffix):
    path = tmp_path / f"w{suffix}"
    state = {prefix + name: tensor for name, tensor in STATE.items()}
    if suffix == ".pt":
        torch.save({"model": state}, path)
    else:
        save_file(state, path)
    loaded = load_state_dict(path)
    assert set(loaded) == set(STATE)
    assert all(torch.equal(loaded[name], STATE[name]) for name in STATE)


def test_compiled_parts_and_parts_called_module_are_told_apart(tmp_path):
    names = ["encoder._orig_mod.weight", "module.weight", "head.module.bias"]
    torch.save({name: torch.zeros(1) for name in names}, tmp_path / "w.pt")
    assert set(load_state_dict(tmp_path / "w.pt")) == {"encoder.weight", "module.weight", "head.module.bias"}


@pytest.mark.parametrize("wrap", [dict, OrderedDict])
def test_bare_state_dict(tmp_path, wrap):
    torch.save(wrap(STATE), tmp_path / "bare.pth")
    assert set(load_state_dict(tmp_path / "bare.pth")) == set(STATE)


def test_old_torch_format(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"model": STATE}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(load_state_dict(path)["layer.weight"], STATE["layer.weight"])
    assert check_structure(path) is Kind.TORCH_PICKLE


def test_safetensors(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    assert torch.equal(load_state_dict(tmp_path / "w.safetensors")["layer.bias"], STATE["layer.bias"])


def test_other_key(tmp_path):
    torch.save({"ema": STATE, "model": {"x": torch.zeros(1)}}, tmp_path / "w.pt")
    assert set(load_state_dict(tmp_path / "w.pt", key="ema")) == set(STATE)


@pytest.mark.parametrize("content", [{"net": STATE, "epoch": 3}, {"model": {}}, {"model": {"a": 3}}, {}])
def test_checkpoint_without_tensors(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r'has no tensors under the key "model" \(found: '):
        load_state_dict(tmp_path / "w.pt")


def test_checkpoint_that_is_a_tensor(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="contains a Tensor, not a checkpoint"):
        load_state_dict(tmp_path / "w.pt")


class _Evil:
    def __reduce__(self):
        return (os.system, ("touch should_not_exist",))


@pytest.mark.parametrize("new", [True, False])
def test_pickle_with_code_is_refused_unrun(tmp_path, monkeypatch, new):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": STATE, "args": _Evil()}, tmp_path / "evil.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(
        WeightsError, match=r"names (posix|nt)\.system, which would run code when loaded; refused"
    ):
        load_state_dict(tmp_path / "evil.pt")
    assert not (tmp_path / "should_not_exist").exists()


def test_plain_pickle_with_code_is_refused_unrun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(WeightsError, match=r"refused|damaged"):
        load_state_dict(tmp_path / "evil.pt")
    assert not (tmp_path / "should_not_exist").exists()


def test_whole_model_pickle_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(WeightsError, match=r"names torch\.nn\.modules\.linear\.Linear, which would run code"):
        load_state_dict(tmp_path / "module.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"<!doctype html><html>404</html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"not weights", "a plain text"),
        (bytes(64), "neither a torch file nor safetensors"),
    ],
)
def test_files_that_are_no_weights(tmp_path, content, words):
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    for judge in (load_state_dict, check_structure):
        with pytest.raises(WeightsError, match=words) as caught:
            judge(path)
        assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        load_state_dict(tmp_path / "none.pt")
    with pytest.raises(WeightsError, match="is a folder"):
        load_state_dict(tmp_path)


@pytest.mark.parametrize("suffix", ["pt", "old.pt", "safetensors"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_truncated_files(tmp_path, suffix, keep):
    path = tmp_path / f"w.{suffix}"
    state = {"a": torch.arange(5000.0)}
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save({"model": state}, path, _use_new_zipfile_serialization=suffix == "pt")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(WeightsError, match=r"truncated|damaged"):
        load_state_dict(path)


def test_flipped_bit_is_found_by_the_structure_check(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"model": {"a": torch.arange(5000.0)}}, path)
    assert check_structure(path) is Kind.TORCH_ZIP
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"record .* is damaged \(CRC-32\)"):
        check_structure(path)


def test_zip_that_is_no_torch_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match="damaged"):
        load_state_dict(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**39) + b'{"a"',
        struct.pack("<Q", 40) + b'{"a": {"dtype": "F32", "shape": [1], "da',
        struct.pack("<Q", 8) + b'{"a": 1}',
        struct.pack("<Q", 4) + b"{{{{",
    ],
)
def test_damaged_safetensors_headers(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert sniff(content) is Kind.SAFETENSORS
    with pytest.raises(WeightsError, match="damaged"):
        load_state_dict(path)


# --- strictness ---------------------------------------------------------------------------------


def test_strict_load_widens_half_precision():
    module = torch.nn.Sequential(OrderedDict(layer=torch.nn.Linear(3, 2)))
    load_strict(module, {name: tensor.half() for name, tensor in STATE.items()}, "half.safetensors")
    assert module.layer.weight.dtype == torch.float32
    assert torch.equal(module.layer.weight, STATE["layer.weight"])


def test_strict_load_counts_every_problem():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    before = module[0].bias.clone()
    state = {"0.weight": torch.zeros(2, 4), "0.bias": torch.zeros(2), "head": torch.zeros(1)}
    with pytest.raises(WeightsError) as caught:
        load_strict(module, state, Path("some.pt"))
    text = str(caught.value)
    assert text.startswith(
        "some.pt: does not fit the model: of 6 tensors 4 missing (1.weight, 1.bias, 2.weight, ...)"
    )
    assert "1 unexpected (head)" in text
    assert "1 of another shape (0.weight (2, 4) instead of (2, 3))" in text
    assert torch.equal(module[0].bias, before), "nothing may be loaded by halves"


# --- the packaged model -------------------------------------------------------------------------

CARD = {
    "method": "membrane-tiny",
    "stage": 1,
    "config": "model:\n  width: 32\n",
    "preprocessing": {"normalize": "robust", "pixel_size": [6.0, 20.0]},
    "logit_threshold": -0.125,
    "card": {"licence": "Apache-2.0", "volumes": 104},
}


def test_model_file_round_trip(tmp_path):
    path = tmp_path / "sub" / "model.safetensors"
    digest = write_model_file(path, STATE, CARD, precision="float16")
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_model_metadata(path) == {**CARD, "cryoseg": 1}
    tensors = read_model_tensors(path)
    assert tensors["layer.weight"].dtype == torch.float16
    assert torch.equal(tensors["layer.weight"].float(), STATE["layer.weight"])
    assert is_model_file(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["model.safetensors"]


def test_same_model_is_the_same_bytes(tmp_path):
    first = write_model_file(tmp_path / "a.safetensors", STATE, CARD)
    shuffled = dict(reversed(CARD.items()))
    assert write_model_file(tmp_path / "b.safetensors", dict(reversed(STATE.items())), shuffled) == first


def test_integers_keep_their_type(tmp_path):
    path = tmp_path / "m.safetensors"
    write_model_file(path, {"n": torch.tensor([2**20]), "w": torch.ones(1)}, CARD, precision="float16")
    tensors = read_model_tensors(path)
    assert tensors["n"].item() == 2**20
    assert tensors["w"].dtype == torch.float16


def test_two_stages_in_one_file(tmp_path):
    path = tmp_path / "both.safetensors"
    both = {f"stage{stage}.{name}": tensor + stage for stage in (1, 2) for name, tensor in STATE.items()}
    write_model_file(path, both, CARD)
    for stage in (1, 2):
        tensors = read_model_tensors(path, f"stage{stage}.")
        assert set(tensors) == set(STATE)
        assert torch.equal(tensors["layer.bias"], STATE["layer.bias"] + stage)
    with pytest.raises(WeightsError, match=r"contains no tensors stage3\.\*; it contains stage1, stage2"):
        read_model_tensors(path, "stage3.")


def test_tied_and_strided_tensors_are_written_apart(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    write_model_file(tmp_path / "m.safetensors", {"a": base, "b": base, "c": base.T}, CARD)
    assert torch.equal(read_model_tensors(tmp_path / "m.safetensors")["c"], base.T)


def test_writing_refuses_what_could_not_be_read_back(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(WeightsError, match=r"tensor big is not finite in torch\.float16; keep float32"):
        write_model_file(path, {"big": torch.tensor([1e6])}, CARD, precision="float16")
    with pytest.raises(WeightsError, match="name of its method"):
        write_model_file(path, STATE, {})
    with pytest.raises(WeightsError, match="not plain JSON"):
        write_model_file(path, STATE, {"method": "x", "path": Path("x")})
    with pytest.raises(WeightsError, match="not plain JSON"):
        write_model_file(path, STATE, {"method": "x", "dice": float("nan")})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_model_file(tmp_path / "file" / "m.safetensors", STATE, CARD)


def test_other_formats_are_named_with_the_fix(tmp_path):
    plain = tmp_path / "plain.safetensors"
    save_file(STATE, plain)
    torch.save({"model": STATE}, tmp_path / "w.pt")
    for path, words in (
        (plain, "no cryoseg metadata; give a stage of ETSAM"),
        (tmp_path / "w.pt", "torch checkpoint"),
    ):
        assert not is_model_file(path)
        with pytest.raises(WeightsError, match=words):
            read_model_metadata(path)
        with pytest.raises(WeightsError, match=words):
            read_model_tensors(path)
    future = tmp_path / "future.safetensors"
    save_file(STATE, future, metadata={"cryoseg": json.dumps({"cryoseg": 2, "method": "x"})})
    assert is_model_file(future)
    with pytest.raises(WeightsError, match="model format 2 and this cryoseg reads 1; upgrade cryoseg"):
        read_model_metadata(future)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"cryoseg": 1}'])
def test_damaged_cards(tmp_path, text):
    save_file(STATE, tmp_path / "m.safetensors", metadata={"cryoseg": text})
    with pytest.raises(WeightsError, match="metadata are damaged"):
        read_model_metadata(tmp_path / "m.safetensors")
