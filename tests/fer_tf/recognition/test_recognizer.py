"""Three lines from files to a table; whatever the input is, the same face gets the same row."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pandas
import pytest
from PIL import Image, ImageSequence

import fer_tf
from fer_tf import files
from fer_tf.errors import InputError
from fer_tf.faces import eyes
from fer_tf.faces.extractor import ClipError, ExtractorOptions, FaceExtractor
from fer_tf.faces.frame import Limits
from fer_tf.recognition import tables
from fer_tf.recognition.pose import head_pose
from fer_tf.recognition.sources import pictures_of, sources_of

CLIP = "take_1/P004/happy/front.mp4"
FER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.fixture(scope="module")
def recognize() -> Iterator[fer_tf.Recognizer]:
    with fer_tf.Recognizer.load("pretrained") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def photo(samples: Path) -> str:
    return str(samples / "photo.jpg")


def test_three_lines_give_a_row_a_face(recognize: fer_tf.Recognizer, photo: str, two_faces: str) -> None:
    table = recognize([photo, two_faces]).table()
    assert tuple(table.columns) == (*tables.FIXED, *FER)
    assert table["input"].tolist() == [photo, two_faces, two_faces] and table["face"].tolist() == [1, 1, 2]
    np.testing.assert_allclose(table[list(FER)].sum(1), 1, atol=1e-4)
    assert table["expression"].tolist() == table[list(FER)].idxmax(axis=1).tolist()
    # The second picture begins with the first, and its second face is the same person at 0.7 of the size.
    np.testing.assert_allclose(table["x"][0], table["x"][1], atol=3)
    np.testing.assert_allclose(table["width"][2] / table["width"][1], 0.7, atol=0.08)


def test_every_kind_of_input_gives_the_same_row(recognize: fer_tf.Recognizer, photo: str, tmp_path: Path) -> None:
    (tmp_path / "deep [1]").mkdir()
    shutil.copy(photo, tmp_path / "deep [1]" / "a.jpg")
    (tmp_path / ".hidden").write_text("not looked at")
    rgb = cv2.imread(photo)[..., ::-1]
    inputs = [
        Path(photo),
        str(tmp_path),
        str(tmp_path / "deep [1]"),
        str(tmp_path / "*" / "*.jpg"),
        Path(photo).read_bytes(),
        np.ascontiguousarray(rgb),
        Image.open(photo),
    ]
    table = recognize(inputs).table()
    assert len(table) == len(inputs)
    assert table["input"].tolist()[-3:] == ["bytes 4", "array 5", "image 6"]
    # Other decoders' pixels differ by a grey level here and there.
    np.testing.assert_allclose(table[list(FER)], np.tile(table[list(FER)].iloc[0], (len(table), 1)), atol=0.05)
    np.testing.assert_allclose(table["x"], table["x"][0], atol=1)


def test_what_is_no_input_is_refused_with_its_kind(tmp_path: Path) -> None:
    for wrong, message in (
        (3, "Received: int"),
        ([None], "Received: NoneType"),
        ([], "no picture and no clip"),
        ("nothing/*.jpg", "no file matches"),
        ("", "an empty path; '.' is the current folder"),
        (str(tmp_path), "the folder .* holds no file"),
        ({"a.jpg": "happy"}, "Received: dict"),
        (np.zeros((9, 9, 3)), r"float64 .*where 1 is white: \(255 \* array\)"),
        (np.full((9, 9, 3), -0.5), r"-1 is black and 1 white: \(\(array \+ 1\) \* 127\.5\)\.round\(\)"),
        (np.full((9, 9, 3), np.nan, np.float32), r"some are nan or infinite.*np\.nan_to_num"),
        (np.full((9, 9, 3), -7), r"values are -7 to -7: bring black to 0"),
        (pandas.DataFrame({"image": ["a.jpg"], "label": ["sad"]}), r"one column of names.*\(1, 2\)"),
        (io.StringIO("text"), r"open\(path, 'rb'\)"),
        (np.full((9, 9, 3), 200.0), r"where 255 is white: array\.astype\('uint8'\)"),
        (np.full((9, 9, 3), 40_000, np.uint16), r"where 65535 is white: \(array \* \(255 / 65535\)\)\.round\(\)"),
        (np.full((9, 9, 3), 4000, np.uint16), "where 4095 is white: "),
        (pandas.Series(["a.jpg", None]), "Received: float at position 1, where a table has no value"),
        (np.zeros((3, 9, 9), np.uint8), r"a clip of grey frames: np\.stack\(\[array\] \* 3, axis=-1\)"),
        (np.zeros((7, 9, 9), np.uint8), r"a clip of grey frames: np\.stack\(\[array\] \* 3, axis=-1\)"),
        (np.zeros((3, 9, 9), np.uint8), r"where the channels come first: array\.transpose\(1, 2, 0\)"),
        (np.zeros((2, 3, 9, 9), np.uint8), r"array\.transpose\(0, 2, 3, 1\)"),
        ("https://example.org/a.jpg", "download"),
    ):
        with pytest.raises(InputError, match=message):
            sources_of(wrong)


def test_what_holds_a_picture_or_names_is_taken_for_it(tmp_path: Path) -> None:
    rgb = np.zeros((9, 8, 3), np.uint8)
    encoded = cv2.imencode(".png", rgb)[1].tobytes()
    (tmp_path / "a.png").write_bytes(encoded)
    path = str(tmp_path / "a.png")

    class Tensor:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            return rgb

    with open(path, "rb") as file:
        for inputs in (file, io.BytesIO(encoded), memoryview(encoded), [memoryview(encoded)]):
            assert [source.value for source in sources_of(inputs)] == [encoded]
    for inputs in (pandas.Series([path]), np.array([path]), {path}, (name for name in [path])):
        assert [source.value for source in sources_of(inputs)] == [path]
    for inputs in (Tensor(), [Tensor()], rgb[..., :1]):
        (source,) = sources_of(inputs)
        assert source.value.shape[:2] == (9, 8)


def test_names_and_encoded_pictures_may_come_in_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.chdir(tmp_path)
    array = cv2.imencode(".png", np.zeros((9, 8, 3), np.uint8))[1]
    encoded = array.tobytes()
    Path("a").write_bytes(encoded)
    for inputs in (tf.constant("a"), tf.constant(["a"]), [tf.constant("a")], np.array("a"), np.array(b"a")):
        assert [source.value for source in sources_of(inputs)] == ["a"]
    assert [source.value for source in sources_of(os.listdir(b"."))] == ["a"]
    assert [source.value for source in sources_of(tf.constant([b"missing.jpg"]))] == ["missing.jpg"]
    with open("a", encoding="latin-1") as text:
        for inputs in (array, [array], tf.io.read_file("a"), tf.stack([tf.io.read_file("a")]), text):
            assert [source.value for source in sources_of(inputs)] == [encoded]


def test_a_limit_of_pixels_holds_for_pillow_images_too() -> None:
    image = Image.new("RGB", (40, 30))
    (small,), (large,) = sources_of(image), sources_of(image, Limits(max_picture_pixels=1000))
    assert small.value.shape == (30, 40, 3) and large.value.reason == "too_large"


def test_a_clip_is_followed_and_its_crops_masks_and_features_come_on_demand(
    recognize: fer_tf.Recognizer, samples: Path
) -> None:
    faces = recognize(str(samples / CLIP), frames_per_second=10, smoothing=0)
    table = faces.table()
    assert len(table) == 5 and set(table["face"]) == {1} and table["time"].is_monotonic_increasing
    crops, masks = faces.crops, faces.masks
    assert crops.shape == (5, 256, 256, 3) and masks.shape == (5, 256, 256)
    # Read once more, the crops are those that the network saw: the same answers, features and masks.
    answers = recognize.network.classify(list(crops))
    np.testing.assert_allclose([a.probabilities for a in answers], table[list(FER)], atol=1e-5)
    np.testing.assert_allclose(faces.embeddings, recognize.network.embed(list(crops)), atol=1e-5)
    np.testing.assert_array_equal(faces.crop(3), crops[3])
    (aligned,) = recognize.extractor.search(next(_frames(samples / CLIP)))[0]
    # Found among five frames or alone, a face's box may differ in its last bits, and a few pixels by a grey level.
    assert _apart(crops[0], aligned.image) < 0.1 < 1 < _apart(crops[4], aligned.image)
    assert _apart(masks[0], aligned.mask) < 0.1 < 1 < _apart(masks[4], aligned.mask)
    landmarks = faces.landmarks
    assert landmarks.shape == (5, 68, 2)
    x, y, width, height = faces[0].box
    inside = (landmarks[0] > (x - 0.2 * width, y - 0.2 * height)) & (landmarks[0] < (x + 1.2 * width, y + 1.2 * height))
    assert inside.all()
    smoothed = recognize(str(samples / CLIP), frames_per_second=10, smoothing=0.4).table()
    assert smoothed[list(FER)].diff().abs().sum().sum() < table[list(FER)].diff().abs().sum().sum()


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference of two pictures, grey levels."""
    return float(np.abs(one.astype(float) - other).mean())


def _frames(path: Path) -> Iterator[np.ndarray]:
    from tests.fer_tf.faces.clips import read_frames

    return iter(read_frames(path))


def test_no_clip_is_decoded_in_the_callers_process_and_one_that_hangs_is_given_up(
    recognize: fer_tf.Recognizer, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A codec that a file hangs or crashes must not take the caller with it."""

    def refused(*args: object, **options: object) -> None:
        raise AssertionError("a clip was opened here")

    monkeypatch.setattr(av, "open", refused)
    clip = samples / CLIP
    faces = recognize([clip, clip.read_bytes()])
    table = faces.table()
    assert not len(faces.rejected) and len(table) == 2 * (table["input"] == str(clip)).sum() > 0
    process = recognize.extractor.decoder.pid
    assert len(list(faces.crops)) == len(table) and faces.plot() and len(faces.crop(0))
    # Reading no further than is needed costs no process.
    assert recognize.extractor.decoder.pid == process
    # While one result is half looked at, the next has a decoder of its own.
    (source,), decoder = sources_of(clip.read_bytes()), recognize.extractor.decoder
    with contextlib.closing(pictures_of(source, recognize.extractor)) as frames:
        assert next(frames).frame().rgb.ndim == 3
        assert len(recognize(clip).table()) == (table["input"] == str(clip)).sum()
        os.kill(decoder.pid, signal.SIGSTOP)
        monkeypatch.setattr(decoder, "timeout_s", 0.5)
        with pytest.raises(ClipError, match=r"`bytes 0`: decoder timeout"):
            list(frames)
    monkeypatch.undo()
    assert len(recognize(clip).table()) == (table["input"] == str(clip)).sum()


def test_every_frame_or_the_keyframes_can_be_asked_for(recognize: fer_tf.Recognizer, samples: Path) -> None:
    clip = str(samples / CLIP)
    assert recognize(clip, frames_per_second="all").table()["frame"].tolist() == list(range(12))
    two = [
        recognize(clip, frames_per_second=rate).table()["frame"].tolist() for rate in (2, np.float32(2), np.int64(2))
    ]
    assert two[0] == two[1] == two[2]
    for wrong in ({"smoothing": "0"}, {"smoothing": None}, {"frames_per_second": True}, {"frames_per_second": "5"}):
        with pytest.raises(
            InputError, match=f"`{next(iter(wrong))}` must be .*Received: {next(iter(wrong.values()))!r}"
        ):
            recognize(clip, **wrong)
    kept = recognize(clip, keyframes=True)
    frames = kept.table()["frame"].tolist()
    assert frames == [face.frame for face in recognize.extractor.extract(clip).faces] and len(frames) < 12
    of_one = fer_tf.Recognizer(recognize.network, FaceExtractor(ExtractorOptions()))
    with pytest.raises(InputError, match="give keyframes=True"):
        of_one(clip)
    assert kept.crops.shape[0] == len(frames) and set(kept.table()["face"]) == {1}


def test_head_pose_and_eye_features_are_columns_on_request(recognize: fer_tf.Recognizer, samples: Path) -> None:
    clips = [
        str(samples / f"take_1/P004/neutral/{view}.mp4") for view in ("front", "half_left", "half_right", "bird_view")
    ]
    faces = recognize(clips, frames_per_second=1, head_pose=True, eyes=True)
    mean = faces.table().groupby("input", sort=False)[["yaw", "pitch"]].mean()
    front, left, right, above = mean.to_numpy()
    assert abs(front[0]) < 12 and 20 < left[0] < 60 and -60 < right[0] < -20
    # A camera above sees a face that looks down.
    assert above[1] < front[1] - 10
    # Upside down, the same head looks and leans to the other side.
    yaw, pitch, roll = head_pose(-faces[0].landmarks)
    np.testing.assert_allclose((yaw, pitch), [-angle for angle in faces[0].head_pose[:2]], atol=0.01)
    assert abs(abs(roll - faces[0].head_pose[2]) - 180) < 0.01
    points = faces[0].landmarks @ faces[0].transform[:, :2].T + faces[0].transform[:, 2]
    expected = eyes.eye_features(points, faces.crop(0))
    np.testing.assert_allclose(faces.table()[list(eyes.FEATURES)].iloc[0], expected, atol=1e-3)


def test_what_is_left_out_is_listed_and_the_rest_goes_on(
    recognize: fer_tf.Recognizer, photo: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    empty = np.full((200, 200, 3), 128, np.uint8)
    faces = recognize([str(tmp_path / "missing.mp4"), photo, empty, str(tmp_path / "broken.jpg")])
    assert "so far" in repr(faces)
    listed = faces.rejected[["input", "reason"]].to_numpy().tolist()
    assert listed == [
        [str(tmp_path / "missing.mp4"), "missing"],
        ["array 2", "no_face"],
        [str(tmp_path / "broken.jpg"), "not_a_video"],
    ]
    assert len(faces) == 1 and repr(faces) == "<Faces of 4 inputs: 1; 3 left out>"


@pytest.mark.parametrize("keyframes", [False, True])
def test_a_damaged_pillow_image_is_listed_and_of_a_moving_one_its_frame_counts(
    recognize: fer_tf.Recognizer, photo: str, tmp_path: Path, keyframes: bool
) -> None:
    (tmp_path / "cut.jpg").write_bytes(Path(photo).read_bytes()[:4000])
    whole = Image.open(photo)
    grey = Image.new("RGB", whole.size, (128, 128, 128))
    grey.save(tmp_path / "moving.gif", save_all=True, append_images=[whole])
    with Image.open(tmp_path / "cut.jpg") as cut, Image.open(tmp_path / "moving.gif") as moving:
        # Each frame is the same image, standing elsewhere.
        faces = recognize(itertools.chain([cut, whole], ImageSequence.Iterator(moving)), keyframes=keyframes)
    assert faces.table()["input"].tolist() == ["image 1", "image 3"]
    listed = faces.rejected[["input", "reason"]].to_numpy().tolist()
    assert listed == [["image 0", "truncated"], ["image 2", "no_face"]]


def test_tables_are_saved_whole_in_three_formats(
    recognize: fer_tf.Recognizer, photo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = recognize(photo)
    table = faces.table()
    for name, read in (
        ("a.csv", pandas.read_csv),
        ("a.parquet", pandas.read_parquet),
        ("a.jsonl", lambda path: pandas.read_json(path, lines=True)),
    ):
        assert faces.save(tmp_path / name) == str(tmp_path / name)
        pandas.testing.assert_frame_equal(read(tmp_path / name), table, check_dtype=False)
    assert json.loads((tmp_path / "a.jsonl").read_text())["expression"] == table["expression"][0]
    with pytest.raises(InputError, match=r"must be one of \('\*\.csv'"):
        faces.save(tmp_path / "a.xlsx")
    assert pandas.read_csv(faces.save(tmp_path / "new" / "deep" / "a.csv")).shape == table.shape
    with pytest.raises(InputError, match="cannot be written"):
        faces.save(tmp_path / "a.csv" / "b.csv")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'fer_tf\[parquet\]'"):
        faces.save(tmp_path / "b.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.jsonl", "a.parquet", "new"]


def test_a_table_goes_into_a_bucket_and_not_into_a_folder_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [("a.jpg", -1, "no_face", ""), ("b.jpg", 7, "no_face", "small")]
    for name, read in (
        ("a.csv", lambda content: pandas.read_csv(content, keep_default_na=False)),
        ("a.parquet", pandas.read_parquet),
        ("a.jsonl", lambda content: pandas.read_json(content, lines=True)),
    ):
        path = f"ram://tables/new/{name}"
        assert tables.save(path, tables.REJECTED, rows) == path
        found = read(io.BytesIO(files.read_bytes(path)))
        assert tuple(found.columns) == tables.REJECTED and [tuple(row) for row in found.to_numpy()] == rows
    with pytest.raises(InputError, match="no file system is known for 'nofs:"):
        tables.save("nofs://b/a.csv", tables.REJECTED, rows)
    assert not list(tmp_path.iterdir())


def test_a_class_called_like_a_column_keeps_apart() -> None:
    assert tables.columns_of(("happy", "time"))[-2:] == ("happy", "probability_time")


def test_a_notebook_sees_faces_curves_and_what_speaks_for_an_answer(
    recognize: fer_tf.Recognizer, photo: str, samples: Path
) -> None:
    faces = recognize([photo, str(samples / CLIP)])
    shown = faces._repr_html_()
    assert shown.count("<img") == 4 and "data:image/jpeg;base64" in shown and faces[0].expression in shown
    for number in (0, 1):
        assert faces.plot(number)._repr_png_().startswith(b"\x89PNG")
    for number in (2, "0"):
        with pytest.raises(InputError, match="must name one of 2 inputs"):
            faces.plot(number)
    side = round(256 * faces._network.live()[1].served_crop)
    overlays = [faces.explain(np.int64(0)), faces.explain(faces[np.int32(0)], "gradcam++", "sad")]
    assert all(abs(overlay.shape[0] - side) <= 2 and overlay.dtype == np.uint8 for overlay in overlays)
    assert (overlays[0] != overlays[1]).any()
    with pytest.raises(InputError, match="`expression` must be one of"):
        faces.explain(0, expression="proud")
    assert np.array_equal(faces.crop(np.int64(-1)), faces.crop(len(faces) - 1))
    for face in (len(faces), -len(faces) - 1, "0", True, None):
        with pytest.raises(InputError, match=f"`face` must name one of the {len(faces)} faces"):
            faces.explain(face)


def test_a_long_input_is_looked_at_only_as_far_as_it_is_asked_for(recognize: fer_tf.Recognizer, photo: str) -> None:
    rgb = np.ascontiguousarray(cv2.imread(photo)[..., ::-1])
    faces = recognize(np.broadcast_to(rgb, (100_000, *rgb.shape)))
    first = next(iter(faces))
    assert first.number == 1 and not faces._done and len(faces._found) == 1
    assert "so far" in repr(faces)


def test_an_unknown_option_or_source_is_named() -> None:
    for options, message in (
        ({"min_score": "0.9"}, r"`min_score` must be a number\. Received: '0\.9'"),
        ({"max_side": 640.0}, r"`max_side` must be a whole number\. Received: 640\.0"),
        ({"decode_timeout_s": None}, "`decode_timeout_s` must be a number"),
    ):
        with pytest.raises(InputError, match=message):
            fer_tf.Recognizer.load("pretrained", **options)
    with pytest.raises(InputError, match=r"`option` must be one of .*'min_score'.*Received: 'min_scores'"):
        fer_tf.Recognizer.load("pretrained", min_scores=0.5)
    with pytest.raises(InputError, match=r"`tta` must be one of \('none', 'flip', 'views'\)\. Received: 'mirror'"):
        fer_tf.Recognizer.load("pretrained", tta="mirror")
    for source in ("pretraned", Path("pretraned")):
        with pytest.raises(InputError, match="must be 'pretrained', 'ferplus'"):
            fer_tf.Recognizer.load(source)
    with pytest.raises(InputError, match=r"`source` must be a name, a path or an address\. Received: None"):
        fer_tf.Recognizer.load(None)
