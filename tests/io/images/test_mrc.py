from __future__ import annotations

import bz2
import gzip
import tracemalloc
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryoseg.config import Mode0
from cryoseg.errors import InputError, OutputError
from cryoseg.io.images.mrc import read_mrc, write_mrc
from cryoseg.types import Geometry

IMOD = 1146047817
COMPRESS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}


@pytest.fixture
def save(tmp_path):
    def _save(content: bytes, name: str = "t.mrc") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return _save


def ramp(dtype: str, shape=(3, 4, 5)) -> np.ndarray:
    values = np.arange(np.prod(shape)).reshape(shape)
    return (values * 4 if dtype == "u1" else values - 30 if dtype[0] != "u" else values * 1000).astype(dtype)


@pytest.mark.parametrize("packing", COMPRESS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "u2", "f2"])
def test_every_mode_byte_order_and_compression_reads_the_same(make_mrc, save, dtype, order, packing):
    data = ramp(dtype)
    path = save(COMPRESS[packing](make_mrc(data, order=order)), "t.mrc" + packing)
    tomogram = read_mrc(path)
    assert tomogram.data.dtype == np.dtype(dtype)
    assert tomogram.data.dtype.isnative
    np.testing.assert_array_equal(tomogram.data, data)
    assert tomogram.geometry.voxel_size == (10.0, 10.0, 10.0)
    assert tomogram.warnings == ()
    assert tomogram.source == path


@pytest.mark.parametrize(
    ("fields", "mode0", "unsigned"),
    [
        ({"dmin": -128, "dmax": 127}, Mode0.AUTO, False),
        ({"dmax": 255, "dmean": 100}, Mode0.AUTO, True),
        ({"imodStamp": IMOD, "imodFlags": 0}, Mode0.AUTO, True),
        ({"imodStamp": IMOD, "imodFlags": 1}, Mode0.AUTO, False),
        ({"imodStamp": IMOD, "imodFlags": 6}, Mode0.AUTO, True),
        ({"imodStamp": 7, "imodFlags": 0, "dmin": -128, "dmax": 127}, Mode0.AUTO, False),
        ({"imodStamp": IMOD, "imodFlags": 0}, Mode0.SIGNED, False),
        ({}, Mode0.UNSIGNED, True),
        ({"imodStamp": IMOD, "imodFlags": 1}, Mode0.UNSIGNED, True),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_bytes_are_unsigned_only_where_imod_the_header_or_the_user_says_so(
    make_mrc, save, fields, mode0, unsigned, order
):
    stored = ramp("u1")
    data = read_mrc(save(make_mrc(stored, order=order, **fields)), mode0=mode0).data
    assert data.dtype == (np.uint8 if unsigned else np.int8)
    np.testing.assert_array_equal(data, stored if unsigned else stored.view(np.int8))


def test_four_bit_data_is_unpacked_low_half_first_with_padded_rows(make_mrc, save):
    # Rows of 3 voxels: 1 2 3 and 15 0 9; each row fills two bytes.
    raw = bytes([0x21, 0x03, 0x0F, 0x09])
    path = save(make_mrc(raw, nx=3, ny=2, nz=1, mx=3, my=2, mz=1, mode=101))
    data = read_mrc(path).data
    assert data.dtype == np.uint8
    np.testing.assert_array_equal(data, [[[1, 2, 3], [15, 0, 9]]])


@pytest.mark.parametrize(
    ("mode", "word"),
    [(3, "complex 16-bit"), (4, "complex 32-bit"), (16, "RGB"), (5, "unknown"), (-1, "unknown")],
)
def test_modes_that_are_no_densities_are_refused_by_name(make_mrc, save, mode, word):
    path = save(make_mrc(ramp("f4"), mode=mode))
    with pytest.raises(InputError, match=f"mode {mode}.*{word}|{word}.*mode {mode}"):
        read_mrc(path)


@pytest.mark.parametrize("packing", COMPRESS)
def test_extended_header_is_skipped(make_mrc, save, packing):
    data = ramp("f4")
    path = save(COMPRESS[packing](make_mrc(data, extended=b"\xff" * 160)), "t.mrc" + packing)
    np.testing.assert_array_equal(read_mrc(path).data, data)


def test_unaligned_extended_header_is_skipped(make_mrc, save):
    data = ramp("f4")
    loaded = read_mrc(save(make_mrc(data, extended=b"\xff" * 81))).data
    np.testing.assert_array_equal(loaded, data)


@pytest.mark.parametrize("packing", COMPRESS)
def test_announced_but_absent_extended_header_is_mended(make_mrc, save, packing):
    data = ramp("f4")
    path = save(COMPRESS[packing](make_mrc(data, nsymbt=4096)), "t.mrc" + packing)
    tomogram = read_mrc(path)
    np.testing.assert_array_equal(tomogram.data, data)
    assert "4096 bytes that is not there" in tomogram.warnings[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"map": b"\0\0\0\0"}, "MAP"),
        ({"stamp": b"\0\0\0\0"}, "machine stamp is 00 00 00 00"),
        ({"stamp": b"ABCD"}, "names no byte order"),
        ({"mz": 0}, "mz is 0"),
        ({"mx": -2}, "mx is -2"),
        ({"nsymbt": -4}, "nsymbt is -4"),
        ({"mapc": 0, "mapr": 0, "maps": 0}, "which axis"),
        ({"ispg": -5}, "space group is -5"),
        ({"zlen": float("nan")}, "voxel size counts as not set"),
        ({"xlen": -3.0}, "voxel size counts as not set"),
        ({"yorg": float("inf")}, "origin is not a number"),
        ({"alpha": 60.0}, "angles"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_slightly_wrong_headers_are_read_and_named(make_mrc, save, fields, words, order):
    data = ramp("f4")
    tomogram = read_mrc(save(make_mrc(data, order=order, **fields)))
    np.testing.assert_array_equal(tomogram.data, data)
    assert len(tomogram.warnings) == 1
    assert words in tomogram.warnings[0]
    assert np.isfinite(tomogram.geometry.origin).all()
    assert np.isfinite(tomogram.geometry.voxel_size).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i1", "i2", "f4"])
def test_contradicted_machine_stamp_gives_way_to_the_sizes(make_mrc, save, order, dtype):
    wrong = {"<": b"\x11\x11\0\0", ">": b"DA\0\0"}[order]
    data = ramp(dtype)
    tomogram = read_mrc(save(make_mrc(data, order=order, stamp=wrong)))
    np.testing.assert_array_equal(tomogram.data, data)
    assert "make sense only as" in tomogram.warnings[0]


def test_surplus_bytes_are_ignored_and_counted(make_mrc, save):
    data = ramp("i2")
    tomogram = read_mrc(save(make_mrc(data) + b"abc"))
    np.testing.assert_array_equal(tomogram.data, data)
    assert "3 bytes longer" in tomogram.warnings[0]
    packed = read_mrc(save(gzip.compress(make_mrc(data) + b"abc"), "t.mrc.gz"))
    np.testing.assert_array_equal(packed.data, data)
    assert "longer" in packed.warnings[0]


def test_other_axis_order_is_turned_with_its_geometry(make_mrc, save):
    # Columns are z, rows are x, sections are y.
    volume = ramp("f4", (2, 3, 4))  # z, y, x
    stored = np.ascontiguousarray(volume.transpose(1, 2, 0))  # sections y, rows x, columns z
    fields = {"mapc": 3, "mapr": 1, "maps": 2, "nxstart": 7, "nystart": 8, "nzstart": 9}
    fields |= {"mx": 4, "my": 3, "mz": 2, "xlen": 40, "ylen": 60, "zlen": 60}
    tomogram = read_mrc(save(make_mrc(stored, xorg=1, yorg=2, zorg=3, **fields)))
    np.testing.assert_array_equal(tomogram.data, volume)
    assert tomogram.geometry.voxel_size == (30.0, 20.0, 10.0)
    assert tomogram.geometry.start == (7, 9, 8)
    assert tomogram.geometry.origin == (3.0, 2.0, 1.0)
    assert "order z, x, y" in tomogram.warnings[0]


@pytest.mark.parametrize("axes", [(1, 1, 3), (1, -2, 3), (4, 5, 6)])
def test_impossible_axis_order_is_refused(make_mrc, save, axes):
    mapc, mapr, maps = axes
    with pytest.raises(InputError, match="mapc, mapr and maps"):
        read_mrc(save(make_mrc(ramp("f4"), mapc=mapc, mapr=mapr, maps=maps)))


def test_stack_of_volumes_is_refused_and_a_stack_of_one_read(make_mrc, save):
    data = ramp("f4", (4, 3, 2))
    with pytest.raises(InputError, match="stack of volumes"):
        read_mrc(save(make_mrc(data, ispg=401, mz=2)))
    assert read_mrc(save(make_mrc(data, ispg=401, mz=4))).data.shape == (4, 3, 2)


def test_image_stack_is_a_volume(make_mrc, save):
    tomogram = read_mrc(save(make_mrc(ramp("f4"), ispg=0, mz=1, zlen=10)))
    assert tomogram.data.shape == (3, 4, 5)
    assert tomogram.geometry.space_group == 0
    assert tomogram.geometry.voxel_size == (10.0, 10.0, 10.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda whole: whole[:-1], "cut short"),
        (lambda whole: whole[:1024], "cut short"),
        (lambda whole: whole[:1000], "inside the 1024-byte"),
        (lambda whole: whole[:2], "inside the 1024-byte"),
    ],
)
@pytest.mark.parametrize("packing", COMPRESS)
def test_cut_files_are_refused_in_one_sentence(make_mrc, save, change, words, packing):
    path = save(COMPRESS[packing](change(make_mrc(ramp("f4")))), "t.mrc" + packing)
    with pytest.raises(InputError, match=words) as caught:
        read_mrc(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packing", [".gz", ".bz2"])
def test_damaged_compression_is_refused(make_mrc, save, packing):
    rng = np.random.default_rng(0)
    whole = COMPRESS[packing](make_mrc(rng.normal(size=(8, 32, 32)).astype("f4")))
    for content in (whole[: len(whole) // 2], whole[:-6], whole[:3000] + b"\0" * 9 + whole[3009:]):
        with pytest.raises(InputError, match=r"damaged|cut short"):
            read_mrc(save(content, "t.mrc" + packing))


@pytest.mark.parametrize("size", [(0, 4, 3), (5, 0, 3), (5, 4, -3)])
def test_empty_axes_are_refused(make_mrc, save, size):
    nx, ny, nz = size
    with pytest.raises(InputError, match="voxels"):
        read_mrc(save(make_mrc(ramp("f4"), nx=nx, ny=ny, nz=nz)))


@pytest.mark.parametrize("packing", COMPRESS)
def test_absurd_sizes_allocate_nothing(make_mrc, save, packing):
    content = make_mrc(ramp("f4"), nx=60000, ny=2_000_000_000, nz=2_000_000_000, nsymbt=2_000_000_000)
    path = save(COMPRESS[packing](content), "t.mrc" + packing)
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            read_mrc(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html>\n<html><body>404 not found</body></html>" + b" " * 1000, "web page"),
        (b"\n <html>" + b"x" * 2000, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n" + b"oid sha256:0\n" * 100, "text file"),
        (b"", "0 bytes"),
    ],
)
def test_other_things_called_mrc_are_named(save, content, words):
    with pytest.raises(InputError, match=words):
        read_mrc(save(content))


def test_big_files_are_mapped_and_swapped_ones_read_once(make_mrc, save):
    data = np.zeros((64, 64, 64), "f4")
    for order, allowed in (("<", 0.1), (">", 1.2)):
        path = save(make_mrc(data, order=order))
        tracemalloc.start()
        try:
            tomogram = read_mrc(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert tomogram.data.nbytes == data.nbytes
        assert peak < allowed * data.nbytes


def geometry() -> Geometry:
    return Geometry(
        voxel_size=(13.5, 10.25, 7.84), origin=(-30.5, 20.0, 1000.0), start=(-3, 2, 100), space_group=0
    )


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float16", "float32"])
def test_what_is_written_is_valid_and_read_by_mrcfile(tmp_path, capsys, dtype):
    data = ramp(np.dtype(dtype).str[1:])
    path = tmp_path / "o.mrc"
    write_mrc(path, data, geometry(), dtype=dtype, label="cryoseg 0.1.0 segment")
    assert mrcfile.validate(path), capsys.readouterr().out
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(mrc.data, data)
        assert mrc.data.dtype == np.dtype(dtype)
        header = mrc.header
        assert header.cella.tolist() == pytest.approx((7.84 * 5, 10.25 * 4, 13.5 * 3))
        assert header.origin.tolist() == (1000.0, 20.0, -30.5)
        assert (header.nxstart, header.nystart, header.nzstart) == (100, 2, -3)
        assert header.ispg == 0
        assert header.dmin == data.min()
        assert header.dmax == data.max()
        assert header.dmean == pytest.approx(data.mean(dtype=np.float64), rel=1e-6)
        assert header.rms == pytest.approx(data.std(dtype=np.float64), rel=1e-6)
        assert header.nlabl == 1
        assert header.label[0] == b"cryoseg 0.1.0 segment"
    loaded = read_mrc(path)
    assert loaded.warnings == ()
    assert loaded.geometry.origin == geometry().origin
    assert loaded.geometry.start == geometry().start
    assert loaded.geometry.voxel_size == pytest.approx(geometry().voxel_size, rel=1e-6)


def test_geometry_survives_any_number_of_copies(make_mrc, save, tmp_path):
    fields = {"xlen": 13.48 * 5, "ylen": 4.3, "zlen": 1e-3, "xorg": -1.7, "nzstart": -52, "ispg": 0}
    first = read_mrc(save(make_mrc(ramp("f4"), **fields)))
    write_mrc(tmp_path / "a.mrc", first.data, first.geometry, dtype="float32", label="a")
    second = read_mrc(tmp_path / "a.mrc")
    assert second.geometry == first.geometry


@pytest.mark.parametrize(
    ("fields", "old"),
    [
        ({"nversion": 0}, True),
        ({"nversion": 0, "imodStamp": IMOD, "imodFlags": 1}, True),
        ({"nversion": 0, "imodStamp": IMOD, "imodFlags": 5}, False),
        ({"nversion": 20140}, False),
        ({"nversion": 20141, "imodStamp": IMOD, "imodFlags": 1}, False),
    ],
)
def test_imod_gives_output_and_input_the_same_sign_of_origin(make_mrc, save, tmp_path, fields, old):
    def imod_turns_the_sign(path: Path) -> bool:
        block = path.read_bytes()[:1024]
        version, stamp, flags = (int(np.frombuffer(block[at : at + 4], "<i4")[0]) for at in (108, 152, 156))
        return 20140 <= version < 20300 or (stamp == IMOD and bool(flags & 4))

    source = save(make_mrc(ramp("i1"), xorg=12.5, yorg=-3, zorg=4, **fields))
    tomogram = read_mrc(source)
    assert tomogram.geometry.imod_origin is old
    for dtype in ("int8", "float32"):
        output = tmp_path / f"{dtype}.mrc"
        write_mrc(output, tomogram.data, tomogram.geometry, dtype=dtype, label="x")
        assert imod_turns_the_sign(output) == imod_turns_the_sign(source) == (not old)
        assert read_mrc(output).geometry == tomogram.geometry


@pytest.mark.parametrize("order", ["<", ">"])
def test_origin_of_the_oldest_headers_lies_where_map_stands_today(make_mrc, save, tmp_path, order):
    """Before MRC2000: z, x, y of the origin from byte 208 on, and no machine stamp."""
    block = bytearray(make_mrc(ramp("f4"), order=order, nversion=0))
    block[208:220] = np.array([-1940.6, -205.25, 195.75], f"{order}f4").tobytes()
    tomogram = read_mrc(save(bytes(block)))
    assert tomogram.geometry.origin == pytest.approx((-1940.6, 195.75, -205.25))
    assert tomogram.geometry.imod_origin
    assert any("older than MRC2000" in warning for warning in tomogram.warnings)
    write_mrc(tmp_path / "o.mrc", tomogram.data, tomogram.geometry, dtype="float32", label="x")
    assert read_mrc(tmp_path / "o.mrc").geometry == tomogram.geometry


@pytest.mark.parametrize("values", [(0, 0, 0), (1e30, 0, 0), (np.nan, 1, 1), (1e-30, 5, 5)])
def test_what_is_no_origin_is_not_taken_for_one(make_mrc, save, values):
    block = bytearray(make_mrc(ramp("f4"), nversion=0))
    block[208:220] = np.array(values, "<f4").tobytes()
    assert read_mrc(save(bytes(block))).geometry.origin == (0.0, 0.0, 0.0)
    block = bytearray(make_mrc(ramp("f4"), nversion=0, xorg=12.5))
    block[208:220] = np.array([1, 2, 3], "<f4").tobytes()
    assert read_mrc(save(bytes(block))).geometry.origin == (0.0, 0.0, 12.5)


def test_old_header_without_origin_gives_a_standard_output(make_mrc, save, tmp_path):
    tomogram = read_mrc(save(make_mrc(ramp("i1"), nversion=0)))
    write_mrc(tmp_path / "o.mrc", tomogram.data, tomogram.geometry, dtype="int8", label="x")
    with mrcfile.open(tmp_path / "o.mrc") as mrc:
        assert mrc.header.nversion == 20141


def test_label_is_cut_and_made_printable(tmp_path):
    path = tmp_path / "o.mrc"
    write_mrc(path, ramp("i1"), Geometry(), dtype="int8", label="é\n" + "x" * 200)
    with mrcfile.open(path) as mrc:
        assert mrc.header.label[0] == b"??" + b"x" * 78


def test_statistics_hold_for_huge_offsets_and_not_for_nan(tmp_path):
    rng = np.random.default_rng(1)
    data = (1e6 + rng.normal(size=(7, 30, 30))).astype("f4")
    write_mrc(tmp_path / "a.mrc", data, Geometry(), dtype="float32", label="a")
    with mrcfile.open(tmp_path / "a.mrc") as mrc:
        assert mrc.header.rms == pytest.approx(data.std(dtype=np.float64), rel=1e-5)
    data[3, 2, 1] = np.nan
    write_mrc(tmp_path / "b.mrc", data, Geometry(), dtype="float32", label="b")
    with mrcfile.open(tmp_path / "b.mrc") as mrc:
        header = mrc.header
        assert header.dmax < header.dmin
        assert header.dmean < header.dmax
        assert header.rms < 0


class LazyVolume:
    """Slices made when they are asked for."""

    shape = (40, 256, 256)

    def __getitem__(self, z: int) -> np.ndarray:
        return np.full(self.shape[1:], z % 2, bool)


def test_lazy_volume_is_written_slice_by_slice(tmp_path):
    path = tmp_path / "o.mrc"
    tracemalloc.start()
    try:
        write_mrc(path, LazyVolume(), Geometry(), dtype="int8", label="x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A slice of bytes, and a few of it as float64 for the statistics; the volume is 2.6 MB.
    assert peak < 30 * 256 * 256
    assert read_mrc(path).data.sum() == 20 * 256 * 256


def test_array_is_not_copied_as_a_whole(tmp_path):
    data = np.zeros((60, 256, 256), np.float32)
    tracemalloc.start()
    try:
        write_mrc(tmp_path / "o.mrc", data, Geometry(), dtype="float32", label="x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.2 * data.nbytes


@pytest.mark.parametrize(
    "data",
    [
        np.full((2, 2, 2), 128, np.int16),
        np.full((2, 2, 2), -129, np.int64),
        np.zeros((2, 2, 2), np.float32),
        np.zeros((2, 2), np.int8),
        np.zeros((0, 2, 2), np.int8),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, data):
    with pytest.raises(OutputError):
        write_mrc(tmp_path / "o.mrc", data, Geometry(), dtype="int8", label="x")
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_fails_midway_leaves_the_old_file(tmp_path):
    class Failing(LazyVolume):
        def __getitem__(self, z: int) -> np.ndarray:
            if z == 20:
                raise ZeroDivisionError
            return super().__getitem__(z)

    path = tmp_path / "o.mrc"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        write_mrc(path, Failing(), Geometry(), dtype="int8", label="x")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name",
    [
        "lysosome_tomogram/tomogram.mrc",
        "lysosome_tomogram/membrane_labels.mrc.gz",
        "particle_phantom/tomogram.mrc",
        "micrograph_ice/Ucsf_stack_1142_DW.mrc",
    ],
)
def test_real_files_read_as_mrcfile_reads_them(real_data, name):
    tomogram = read_mrc(real_data / name)
    with mrcfile.open(real_data / name, permissive=True) as mrc:
        np.testing.assert_array_equal(tomogram.data.squeeze(), mrc.data)
        assert tomogram.geometry.voxel_size[::-1] == pytest.approx(mrc.voxel_size.tolist())


@pytest.mark.parametrize("packing", ["", ".gz"])
@pytest.mark.parametrize("kind", [b"SERI", b"FEI1", b"FEI2", b"CCP4", b"\0\0\0\0"])
def test_extended_headers_go_on_into_outputs(make_mrc, save, tmp_path, packing, kind):
    extended = bytes(range(160))
    content = bytearray(make_mrc(np.ones((2, 3, 4), "f4"), extended=extended))
    content[104:108], content[128:132] = kind, b"\x02\x00\x07\x00"
    found = read_mrc(save(COMPRESS[packing](bytes(content)), "t.mrc" + packing))
    write_mrc(tmp_path / "o.mrc", found.data, found.geometry, dtype="float32", label="x")
    written = (tmp_path / "o.mrc").read_bytes()
    assert written[1024:1184] == extended
    assert written[104:108] == kind
    assert written[128:132] == b"\x02\x00\x07\x00"
    with mrcfile.open(tmp_path / "o.mrc") as mrc:
        assert mrc.header.nsymbt == 160
        np.testing.assert_array_equal(mrc.data, 1)
    again = read_mrc(tmp_path / "o.mrc")
    assert again.geometry == found.geometry
    np.testing.assert_array_equal(again.data, found.data)


def test_extended_headers_that_would_lie_are_left_out(make_mrc, save):
    data = np.ones((2, 3, 4), "f4")
    for name, content in (
        ("big.mrc", make_mrc(data, order=">", extended=b"\1" * 160)),
        ("turned.mrc", make_mrc(data, mapc=2, mapr=1, extended=b"\1" * 160)),
        ("none.mrc", make_mrc(data)),
    ):
        assert read_mrc(save(content, name)).geometry.extended_header is None
    symmetry = bytearray(make_mrc(data, order=">", extended=b"X,Y,Z".ljust(80)))
    symmetry[104:108] = b"CCP4"
    kept = read_mrc(save(bytes(symmetry), "ccp4.mrc")).geometry.extended_header
    assert kept is not None
    assert kept.content == b"X,Y,Z".ljust(80)
