from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoseg.config import Naming
from cryoseg.io.inputs import etsam_stem, output_stems, resolve_inputs, stem


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in (
        "a/ts_2.mrc",
        "a/ts_1.rec",
        "a/ts_3.mrc.gz",
        "a/notes.md",
        "a/.hidden.mrc",
        "a/sub/ts_9.mrc",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "odd[1].mrc").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(items):
    return [item.path.name for item in items]


def test_folder_gives_its_known_files_sorted(tree):
    items = resolve_inputs(["a"])
    assert [item.path for item in items] == [Path("a/ts_1.rec"), Path("a/ts_2.mrc"), Path("a/ts_3.mrc.gz")]
    assert not any(item.error for item in items)


def test_order_of_arguments_is_kept_and_duplicates_dropped(tree):
    items = resolve_inputs(["a/ts_2.mrc", "a", str(tree / "a" / "ts_1.rec"), "b/../a/ts_2.mrc"])
    assert names(items) == ["ts_2.mrc", "ts_1.rec", "ts_3.mrc.gz"]


def test_globs_are_expanded_and_known_suffixes_taken(tree):
    assert names(resolve_inputs(["a/ts_*"])) == ["ts_1.rec", "ts_2.mrc", "ts_3.mrc.gz"]
    assert names(resolve_inputs(["**/*.mrc"])) == ["ts_9.mrc", "ts_2.mrc", "odd[1].mrc"]


def test_existing_name_with_brackets_is_no_glob(tree):
    items = resolve_inputs(["b/odd[1].mrc"])
    assert items[0].error is None
    assert items[0].path == Path("b/odd[1].mrc")


def test_own_outputs_are_left_out_of_folders_but_not_when_named(tree):
    outputs = [
        "ts_2_membrane_mask.mrc",
        "ts_2_membrane_logits.mrc",
        "ts_2_membrane_post_processed_mask.mrc",
        "ts_2_membrane_components.mrc",
        "ts_2_etsam_predicted_mask.mrc",
        "ts_2_etsam_split_processing_predicted_logits.mrc",
        "ts_2_etsam_predicted_post_processed_mask.mrc",
    ]
    for name in outputs:
        (tree / "a" / name).write_bytes(b"x")
    inputs = ["ts_1.rec", "ts_2.mrc", "ts_3.mrc.gz"]
    assert names(resolve_inputs(["a"])) == inputs
    assert names(resolve_inputs(["a/*"])) == inputs
    assert sorted(names(resolve_inputs(["a"], leave_out=None))) == sorted(inputs + outputs)
    assert names(resolve_inputs([f"a/{outputs[0]}"])) == outputs[:1]


def test_missing_and_empty_ones_stay_as_failed_items(tree):
    (tree / "zero.mrc").touch()
    (tree / "empty_folder").mkdir()
    items = resolve_inputs(["none.mrc", "zero.mrc", "empty_folder", "x*.mrc", "none.txt", "a/ts_2.mrc"])
    errors = [item.error for item in items]
    assert [bool(error) for error in errors] == [True] * 5 + [False]
    for error, words in zip(
        errors, ("no such file", "0 bytes", "holds no file", "matches", "cannot be read"), strict=False
    ):
        assert words in error
        assert "\n" not in error


def test_unknown_suffix_is_left_to_the_reader(tree):
    assert resolve_inputs(["a/notes.md"])[0].error is None


@pytest.mark.parametrize("form", ["lists/l.txt", "@lists/l.txt"])
def test_list_looks_beside_itself_first_and_then_here(tree, form):
    (tree / "lists").mkdir()
    (tree / "lists" / "ts_2.mrc").write_bytes(b"beside")
    (tree / "ts_2.mrc").write_bytes(b"here")
    text = "\ufeff# tomograms\n\nts_2.mrc\na/ts_1.rec   # good one\n a \ngone.mrc\na/ts_[3]*\n"
    (tree / "lists" / "l.txt").write_text(text, encoding="utf-8")
    items = resolve_inputs([form])
    assert [str(item.path) for item in items] == [
        "lists/ts_2.mrc",
        "a/ts_1.rec",
        "a/ts_2.mrc",
        "a/ts_3.mrc.gz",
        "gone.mrc",
    ]
    assert [bool(item.error) for item in items] == [False] * 4 + [True]


def test_list_in_a_folder_with_brackets(tree):
    folder = tree / "run[1]"
    folder.mkdir()
    (folder / "t.mrc").write_bytes(b"x")
    (folder / "l.txt").write_text("*.mrc\n")
    assert names(resolve_inputs(["run[1]/l.txt"])) == ["t.mrc"]


def test_hash_inside_a_name_is_no_comment(tree):
    (tree / "a#1.mrc").write_bytes(b"x")
    (tree / "l.txt").write_text("a#1.mrc\n")
    assert resolve_inputs(["l.txt"])[0].error is None


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe\x00", b"other.txt\n"])
def test_lists_that_give_nothing_are_failed_items(tree, content):
    (tree / "l.txt").write_bytes(content)
    items = resolve_inputs(["l.txt"])
    assert len(items) == 1
    assert items[0].error


@pytest.mark.parametrize("text", ["a\0b", "\0/?", "@a\0.txt", "a\0.star", "~\0/*.mrc"])
def test_names_with_a_null_character_are_failed_items(text):
    assert "null character" in resolve_inputs([text])[0].error


@given(st.lists(st.text(max_size=12), max_size=4))
def test_any_text_is_answered(texts):
    for item in resolve_inputs([text for text in texts if "*" not in text]):
        assert item.error is None or "\n" not in item.error or "\n" in "".join(texts)


@pytest.mark.parametrize(
    ("name", "expected", "etsam"),
    [
        ("ts_1.5A.mrc", "ts_1.5A", "ts_1"),
        ("ts_1.7A.mrc.gz", "ts_1.7A", "ts_1"),
        ("a.rec", "a", "a"),
        ("a.b.MAP.BZ2", "a.b", "a"),
        ("rec.mrc.rec", "rec.mrc", "rec"),
        ("ts_1.5A", "ts_1.5A", "ts_1"),
        (".mrc", ".mrc", ".mrc"),
    ],
)
def test_stems(name, expected, etsam):
    assert stem(Path("x.y") / name) == expected
    assert etsam_stem(Path("x.y") / name) == etsam


def test_inputs_of_different_names_keep_their_stems():
    paths = [Path("a/x.mrc"), Path("b/y.rec")]
    assert list(output_stems(paths).values()) == ["x", "y"]


def test_inputs_of_one_name_get_their_folder_in_front():
    paths = [Path("/d/grid1/ts.mrc"), Path("/d/grid2/ts.mrc"), Path("/d/other.mrc")]
    assert list(output_stems(paths).values()) == ["grid1_ts", "grid2_ts", "other"]


def test_folders_of_one_name_take_the_folder_above():
    paths = [Path("/d/s1/rec/ts.mrc"), Path("/d/s2/rec/ts.mrc")]
    assert list(output_stems(paths).values()) == ["s1_rec_ts", "s2_rec_ts"]


def test_one_name_in_one_folder_keeps_the_suffix():
    paths = [Path("/d/ts.mrc"), Path("/d/ts.rec"), Path("/e/ts.mrc")]
    assert list(output_stems(paths).values()) == ["ts_mrc", "ts_rec", "e_ts"]


def test_names_that_differ_in_case_only_are_told_apart():
    stems = list(output_stems([Path("/d/TS.mrc"), Path("/e/ts.mrc")]).values())
    assert stems == ["d_TS", "e_ts"]


def test_etsam_names_that_would_overwrite_each_other_are_told_apart():
    paths = [Path("/d/ts_1.5A.mrc"), Path("/d/ts_1.7A.mrc"), Path("/d/ts_2.5A.mrc")]
    assert list(output_stems(paths, naming=Naming.ETSAM).values()) == ["ts_1.5A", "ts_1.7A", "ts_2"]


def test_a_lengthened_stem_does_not_meet_another_input():
    paths = [Path("/d/a/x.mrc"), Path("/d/b/x.mrc"), Path("/d/a_x.mrc")]
    stems = output_stems(paths)
    assert len(set(stems.values())) == 3


@given(
    st.lists(
        st.builds(
            lambda folder, name, suffix: Path("/r", *folder, name + suffix),
            st.lists(st.sampled_from(["a", "b", "a_b"]), max_size=2),
            st.sampled_from(["x", "a_x", "x.1", "X"]),
            st.sampled_from([".mrc", ".rec", ".mrc.gz", "_mrc.mrc"]),
        ),
        unique=True,
        max_size=6,
    ),
    st.sampled_from(list(Naming)),
)
def test_stems_differ_and_do_not_depend_on_the_order(paths, naming):
    stems = output_stems(paths, naming=naming)
    assert list(stems) == paths
    assert len({name.casefold() for name in stems.values()}) == len(paths)
    assert all(
        output_stems(list(p), naming=naming) == stems
        for p in itertools.islice(itertools.permutations(paths), 6)
    )


@pytest.mark.parametrize("text", ["~/a/ts_2.mrc", "~/a/ts_2*", "~/list.txt", "@~/list.txt"])
def test_home_is_expanded_in_every_form(tree, monkeypatch, text):
    monkeypatch.setenv("HOME", str(tree))
    (tree / "list.txt").write_text("~/a/*_2.mrc\n", encoding="utf-8")
    assert [item.path for item in resolve_inputs([text])] == [tree / "a" / "ts_2.mrc"]


@pytest.mark.parametrize("folder", ["grid[1] (a)", "grid[1] (a)/sub[2]", "star*", "what?"])
def test_folder_named_like_a_wildcard_is_taken_by_its_name(tree, folder):
    (tree / folder).mkdir(parents=True)
    (tree / folder / "ts[1].mrc").write_bytes(b"x")
    (tree / "grid1 (a)").mkdir()
    (tree / "grid1 (a)" / "other.mrc").write_bytes(b"x")
    assert names(resolve_inputs([f"{folder}/*.mrc"])) == ["ts[1].mrc"]
    assert names(resolve_inputs([f"{tree}/{folder}/*.mrc"])) == ["ts[1].mrc"]


@pytest.mark.parametrize(
    "line",
    ['"{}"', "'{}'", '  "{}"  ', '"{}" # the good one', "{}\t# the good one", "\ufeff{}", "{}\r"],
)
def test_entry_of_a_list_is_freed_of_quotes_and_comments(tree, line):
    (tree / "a b #1.mrc").write_bytes(b"x")
    (tree / "l.txt").write_bytes(
        line.format("a b #1.mrc" if '"' in line or "'" in line else "a/ts_1.rec").encode()
    )
    (item,) = resolve_inputs(["l.txt"])
    assert item.error is None


def test_names_are_bytes_whatever_their_encoding(tree):
    name = os.fsdecode(b"M\xfcller_\x85.mrc")
    (tree / "a" / name).write_bytes(b"x")
    (tree / "l.txt").write_bytes(b"a/M\xfcller_\x85.mrc\n")
    assert names(resolve_inputs(["a/M*.mrc"])) == [name]
    assert names(resolve_inputs(["l.txt"])) == [name]


def test_second_link_to_a_file_is_an_item_that_says_so(tree):
    (tree / "b" / "link.mrc").symlink_to("../a/ts_2.mrc")
    items = resolve_inputs(["a/ts_2.mrc", "b/link.mrc", "b/../a/ts_2.mrc"])
    assert [(item.path, item.same_as) for item in items] == [
        (Path("a/ts_2.mrc"), None),
        (Path("b/link.mrc"), Path("a/ts_2.mrc")),
    ]
    assert [item.is_new for item in items] == [True, False]


def write_star(path, column, names, block="micrographs"):
    rows = "".join(f"{name} 1\n" for name in names)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 3.75\n\n"
        f"data_{block}\n\nloop_\n_{column} #1\n_rlnOpticsGroup #2\n{rows}",
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    ("column", "block"),
    [("rlnMicrographName", "micrographs"), ("rlnTomoReconstructedTomogram", "global")],
)
def test_star_of_relion_names_files_of_its_project(tree, column, block):
    star = tree / "CtfFind" / "job003" / "micrographs_ctf.star"
    write_star(star, column, ["a/ts_3.mrc.gz", "a/gone.mrc", "a/ts_1.rec", "a/ts_3.mrc.gz"], block)
    for text in (str(star), str(star.relative_to(tree))):
        items = resolve_inputs([text])
        assert names(items) == ["ts_3.mrc.gz", "gone.mrc", "ts_1.rec"]
        assert [item.error is None for item in items] == [True, False, True]
        assert "a/gone.mrc: no such file" in items[1].error
        assert "micrographs_ctf.star names" in items[1].error


def test_star_without_images_says_what_a_list_is(tree):
    write_star(tree / "p.star", "rlnCoordinateX", ["1"], "particles")
    (item,) = resolve_inputs(["p.star"])
    assert "names no images" in item.error
    assert ".txt" in item.error
    assert resolve_inputs(["p.star"], suffixes=(".star",))[0].error is None


def test_broken_star_is_a_failed_item(tree):
    (tree / "p.star").write_bytes(b"data_\n\nloop_\n_a #1\n\xff\xfe")
    assert "cannot be read as text" in resolve_inputs(["p.star"])[0].error
