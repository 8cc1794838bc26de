"""Pictures inside parquet files: read as LeRobot reads them, or refused with their kind and the flag that helps."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from broken import data_file, edit_info, edit_table, refusal, refusal_of_frame, replace
from fakes import CAMERAS, FakeDataset, read_frame_number, write_dataset
from PIL import ExifTags, Image

from pi05.data.lerobot.identity import identify
from pi05.data.lerobot.pictures import PictureKind, decode_picture
from pi05.data.lerobot.reader import Dataset
from pi05.errors import DataError

CAMERA = CAMERAS[0]
CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def pictures(tmp_path: Path) -> FakeDataset:
    """A v2.1 set of one camera, PNG bytes in the parquet files."""
    return write_dataset(tmp_path / "set", "v2.1", storage="image", cameras=(CAMERA,))


def stored(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def convert(fake: FakeDataset, change: Callable[[Image.Image], bytes], episode: int = 1) -> None:
    """Store the pictures of one episode in another way."""

    def rewrite(table: pa.Table) -> pa.Table:
        cells = [change(Image.open(io.BytesIO(cell["bytes"]))) for cell in table[CAMERA].to_pylist()]
        return replace(table, CAMERA, pa.array([{"bytes": cell, "path": None} for cell in cells], CELL))

    edit_table(data_file(fake, episode), rewrite)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_pictures_of_more_than_8_bits_are_refused(pictures: FakeDataset, kind: type[np.generic]) -> None:
    def deepen(image: Image.Image) -> bytes:
        form = "PNG" if kind is np.uint16 else "TIFF"
        return stored(Image.fromarray(np.asarray(image.convert("L")).astype(kind) * kind(16)), form)  # type: ignore

    convert(pictures, deepen)
    flag = f"--drop_cameras='[{CAMERA}]'"
    refusal_of_frame(
        pictures.root, 15, "8 bits per colour", "episode 1, frame 3", "of mode", "episode_000001.parquet", flag
    )


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA"])
def test_other_pictures_of_8_bits_are_read(pictures: FakeDataset, mode: str) -> None:
    convert(pictures, lambda image: stored(image.convert(mode)))
    assert read_frame_number(Dataset(pictures.root).image(CAMERA, 15))[0] == 15


@pytest.mark.parametrize("turn", [Image.Transpose.ROTATE_180, Image.Transpose.FLIP_LEFT_RIGHT])
def test_pictures_are_turned_upright(pictures: FakeDataset, turn: Image.Transpose) -> None:
    before = Dataset(pictures.root).image(CAMERA, 15)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3 if turn == Image.Transpose.ROTATE_180 else 2
    convert(pictures, lambda image: stored(image.transpose(turn), exif=exif))
    np.testing.assert_array_equal(Dataset(pictures.root).image(CAMERA, 15), before)


@pytest.mark.parametrize("nested", [True, False])
def test_raw_numbers_are_refused_at_opening(pictures: FakeDataset, nested: bool) -> None:
    raw: list[Any] = [[[1, 2, 3]] * 4] * 9 if nested else list(range(9))
    edit_table(data_file(pictures, 1), lambda table: replace(table, CAMERA, pa.array(raw)))
    flag = f"--drop_cameras='[{CAMERA}]'"
    refusal(pictures.root, f"camera {CAMERA} is no column of pictures", "episode_000001.parquet", "int64", flag)


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("observation.images.depth", "uint16", [48, 64, 1]),
        ("observation.images.side", "jpeg", None),
        ("rgb", "uint8", [48, 64, 3]),
        ("rgb", "image_raw", [3, 48, 64]),
        ("wrist_cam", "float32", [48, 64, 3]),
    ],
)
def test_a_camera_of_an_unknown_kind_is_not_dropped_in_silence(
    fake: FakeDataset, name: str, dtype: str, shape: list[int] | None
) -> None:
    edit_info(fake.root, lambda info: info["features"].update({name: {"dtype": dtype, "shape": shape}}))
    refusal(fake.root, f"camera {name}", "meta/info.json", f"dtype '{dtype}'", f"--drop_cameras='[{name}]'")
    assert Dataset(fake.root, drop_cameras=[name]).camera_keys == list(CAMERAS)


def test_other_columns_are_no_cameras(fake: FakeDataset) -> None:
    points = {"dtype": "float32", "shape": [64, 64, 3], "names": None}
    edit_info(fake.root, lambda info: info["features"].update({"points": points, "words": {"dtype": "string"}}))
    assert Dataset(fake.root).camera_keys == list(CAMERAS)


@pytest.mark.parametrize("details", ["RGB stream", 5, ["depth"], None])
def test_details_that_are_no_dictionary_say_nothing(fake: FakeDataset, details: Any) -> None:
    edit_info(fake.root, lambda info: info["features"][CAMERA].update(info=details))
    assert Dataset(fake.root).camera_keys == list(CAMERAS)


def test_pictures_in_many_row_groups(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path / "set", "v3.0", storage="image")
    pq.write_table(pq.read_table(data_file(fake, 0)), data_file(fake, 0), row_group_size=5)
    data = Dataset(fake.root)
    for i in [0, 4, 5, 20, 12, 13, 3, 27]:
        assert read_frame_number(data.image(CAMERAS[1], i)) == (i, 1)
    assert [read_frame_number(image)[0] for image in data.iter_frames(CAMERAS[0], 1)] == list(range(12, 21))


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 16 MiB, of which a quarter is for row groups of pictures."""
    sizes = {"SC_PHYS_PAGES": 2**12, "SC_PAGE_SIZE": 2**12}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)


@pytest.mark.parametrize("once", [True, False])
def test_a_small_file_that_unpacks_to_more_than_the_memory(
    pictures: FakeDataset, small_machine: None, once: bool
) -> None:
    """The same large value in every row: stored once, as writers do by themselves, or compressed away."""
    whole = stored(Image.new("RGB", (64, 48)))
    padded = pa.array([{"bytes": whole + bytes(700_000), "path": None}] * 9, CELL)
    table = replace(pq.read_table(data_file(pictures, 1)), CAMERA, padded)
    pq.write_table(table, data_file(pictures, 1), use_dictionary=once, compression="zstd")
    assert data_file(pictures, 1).stat().st_size < 40_000
    if once:  # row by row there is room for each
        data = Dataset(pictures.root)
        assert len(list(data.iter_frames(CAMERA, 1))) == 9
        with pytest.raises(DataError, match=r"does not fit into the memory of this machine at episode 1, frame 0"):
            data.image(CAMERA, 12)
    else:
        refusal_of_frame(pictures.root, 12, "does not fit into the memory", "smaller row groups", "more than 0.0 GB")


def test_kept_row_groups_share_the_memory(pictures: FakeDataset, small_machine: None) -> None:
    """Three episodes of some 3 MB are read in turns where there is room for one."""

    def pad(image: Image.Image) -> bytes:
        return stored(image) + os.urandom(240_000)

    for episode in range(3):
        convert(pictures, pad, episode)
    data = Dataset(pictures.root)
    frames = [data.image(CAMERA, i) for i in (0, 12, 25, 1, 13, 26)]
    assert [read_frame_number(frame)[0] for frame in frames] == [0, 12, 25, 1, 13, 26]


def test_pictures_given_by_path(tmp_path: Path) -> None:
    fake = write_dataset(tmp_path / "set", "v2.0", storage="image", cameras=CAMERAS[:1])
    folder = fake.root / "images"
    folder.mkdir()

    def move(table: pa.Table) -> pa.Table:
        cells = table[CAMERAS[0]].to_pylist()
        first = table["index"][0].as_py()
        for k, cell in enumerate(cells):
            (folder / f"{first + k}.png").write_bytes(cell["bytes"])
        paths = [{"bytes": None, "path": f"images/{first + k}.png"} for k in range(len(cells))]
        return replace(table, CAMERAS[0], pa.array(paths, table[CAMERAS[0]].type))

    for episode in range(3):
        edit_table(data_file(fake, episode), move)
    assert read_frame_number(Dataset(fake.root).image(CAMERAS[0], 15)) == (15, 0)
    (folder / "15.png").unlink()
    with pytest.raises(DataError, match=r"(?s)episode 1, frame 3: .*episode_000001\.parquet.*images/15\.png"):
        Dataset(fake.root).image(CAMERAS[0], 15)


def store(fake: FakeDataset, cell: dict[str, Any]) -> None:
    """Put a cell of one's own into frame 3 of episode 1."""

    def change(table: pa.Table) -> pa.Table:
        cells = table[CAMERA].to_pylist()
        cells[3] = cell
        return replace(table, CAMERA, pa.array(cells, CELL))

    edit_table(data_file(fake, 1), change)


class TestPathsInCells:
    """A path is that of a file of the data set, and of nothing else on the machine."""

    @pytest.mark.parametrize("path", ["../secret.png", "images/../../secret.png", "/dev/zero", "", "a\\..\\b.png"])
    def test_they_do_not_lead_out(self, pictures: FakeDataset, path: str) -> None:
        Image.new("RGB", (64, 48)).save(pictures.root.parent / "secret.png")
        store(pictures, {"bytes": None, "path": path})
        refusal_of_frame(pictures.root, 15, "outside the data set", CAMERA, "episode 1, frame 3")

    def test_nor_does_the_full_path_of_a_picture_in_the_set(self, pictures: FakeDataset) -> None:
        Image.new("RGB", (64, 48)).save(pictures.root / "x.png")
        store(pictures, {"bytes": None, "path": str(pictures.root.absolute() / "x.png")})
        refusal_of_frame(pictures.root, 15, "outside the data set", "put the file into that folder")

    @pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
    def test_only_files_are_read(self, pictures: FakeDataset, kind: str) -> None:
        path = pictures.root / "x.png"
        if kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
        store(pictures, {"bytes": None, "path": "x.png"})
        refusal_of_frame(pictures.root, 15, "cannot be read", "episode 1, frame 3")
        data = Dataset(pictures.root)
        assert path not in data.picture_files([CAMERA])
        identify(data, [CAMERA])
        data.fingerprint()

    def test_links_of_the_hubs_cache_are_followed(self, pictures: FakeDataset) -> None:
        Image.new("RGB", (64, 48), "white").save(pictures.root.parent / "blob", "PNG")
        (pictures.root / "x.png").symlink_to("../blob")
        store(pictures, {"bytes": None, "path": "x.png"})
        assert (Dataset(pictures.root).image(CAMERA, 15) == 255).all()


def png_of(width: int, height: int) -> bytes:
    """Return the head of a PNG that announces a size; there is no need for its pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(head)) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize("side", [6_000, 10_000, 13_000, 30_000])
def test_a_picture_larger_than_any_cameras_is_refused_by_its_header(pictures: FakeDataset, side: int) -> None:
    """10,000 is where Pillow warns, 13,000 was decoded, 30,000 is where Pillow gives up."""
    data = png_of(side, side)
    end = b"IEND"
    whole = data + struct.pack(">I", 0) + end + struct.pack(">I", zlib.crc32(end))
    store(pictures, {"bytes": whole, "path": None})
    refusal_of_frame(pictures.root, 15, "too large", "episode 1, frame 3", "33,554,432 pixels", "--drop_cameras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in a user's run, where Pillow's warning is no error
        with pytest.raises(PictureKind, match="too large"):
            decode_picture(whole)


def test_other_formats_of_pillow_are_not_opened() -> None:
    """Some of them run programs (EPS) or hold pages of other things (PDF)."""
    for text in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", b"%PDF-1.4\n", b"GIF89a" + bytes(20)):
        with pytest.raises(OSError, match="cannot identify"):
            decode_picture(text)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM"])
def test_damaged_pictures_give_an_error_that_is_expected(form: str) -> None:
    rng = np.random.default_rng(0)
    whole = stored(Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)), form)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow tells of damaged TIFF entries
        for _ in range(60):
            data = bytearray(whole[: rng.integers(1, len(whole) + 1)])
            for place in rng.integers(0, min(len(data), 64), 3):
                data[place] = rng.integers(0, 256)
            with contextlib.suppress(PictureKind, ValueError, OSError):  # anything else fails the test
                assert decode_picture(bytes(data)).dtype == np.uint8


@pytest.mark.parametrize("kind", [pa.struct([("bytes", pa.int64())]), pa.struct([("path", pa.list_(pa.string()))])])
def test_a_struct_that_holds_something_else_is_refused_at_opening(pictures: FakeDataset, kind: pa.DataType) -> None:
    edit_table(data_file(pictures, 1), lambda table: replace(table, CAMERA, pa.array([None] * 9, kind)))
    refusal(pictures.root, f"camera {CAMERA} is no column of pictures", "struct")


@pytest.mark.parametrize("shape", [["48", 64, 3], [48.0, 64, 3], "48x64", {"height": 48}, [0, 0, 3], [-1, 64, 3]])
def test_a_cameras_shape_that_is_none(fake: FakeDataset, shape: Any) -> None:
    edit_info(fake.root, lambda info: info["features"][CAMERA].update(shape=shape))
    refusal(fake.root, f"the shape of camera {CAMERA} cannot be", "meta/info.json")
