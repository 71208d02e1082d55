"""From a clip to its subject's aligned faces, with the real decoder, MTCNN and dlib."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from fer_tf.errors import InputError
from fer_tf.faces import align
from fer_tf.faces.detect import shrunk
from fer_tf.faces.extractor import AlignedFace, ClipError, ClipFaces, ExtractorOptions, FaceExtractor
from fer_tf.faces.subject import Seen, choose_subject
from fer_tf.faces.views import View
from fer_tf.labels import F2ED_POSES
from tests.fer_tf.faces.clips import drawn, read_frames, write_clip


def with_options(extractor: FaceExtractor, **options: object) -> FaceExtractor:
    """The same networks and decoder under other options."""
    other = object.__new__(FaceExtractor)
    other.__dict__ = extractor.__dict__ | {"options": ExtractorOptions(**options)}
    return other


def same(one: ClipFaces, other: ClipFaces) -> bool:
    def equal(face: AlignedFace, twin: AlignedFace) -> bool:
        return all(np.array_equal(value, vars(twin)[name]) for name, value in vars(face).items())

    return (
        len(one.faces) == len(other.faces)
        and one.rejected == other.rejected
        and all(map(equal, one.faces, other.faces))
    )


@pytest.mark.parametrize("pose", F2ED_POSES)
def test_every_pose_gives_its_late_frames_as_faces(extractor: FaceExtractor, samples: Path, pose: str) -> None:
    found = extractor.extract(str(samples / f"take_1/P006/surprise/{pose}.mp4"))
    frames = [face.frame for face in found.faces]
    assert found.frames_decoded == 12 and len(frames) == found.frames_kept >= 3 and not found.rejected
    assert frames == sorted(frames) and frames[0] >= 2 and frames[-1] == 11
    for face in found.faces:
        assert face.image.shape == (256, 256, 3) and face.image.dtype == face.mask.dtype == np.uint8
        assert face.landmarks.shape == face.frame_landmarks.shape == (68, 2)
        assert face.landmarks.dtype == face.frame_landmarks.dtype == face.box.dtype == np.float32
        assert 0.8 <= face.score <= 1 and abs(face.time - face.frame / 25) < 1e-3
        inside = (face.frame_landmarks > face.box[:2] - 30) & (face.frame_landmarks < face.box[:2] + face.box[2:] + 30)
        assert inside.all()


def test_the_same_clip_gives_the_same_faces_also_from_two_threads(extractor: FaceExtractor, samples: Path) -> None:
    path = str(samples / "take_1/P001/angry/front.mp4")
    once, results = extractor.extract(path), []
    threads = [threading.Thread(target=lambda: results.append(extractor.extract(path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2 and all(same(once, result) for result in results)


def test_a_rotated_clip_gives_the_faces_of_the_upright_one(
    extractor: FaceExtractor, samples: Path, tmp_path: Path
) -> None:
    frames = read_frames(samples / "take_1/P001/happy/front.mp4")[-3:]
    upright = extractor.extract(write_clip(tmp_path / "a.mp4", frames))
    turned = extractor.extract(write_clip(tmp_path / "b.mp4", [np.rot90(f, -1) for f in frames], rotation=90))
    assert len(upright.faces) == len(turned.faces) > 0
    for one, other in zip(upright.faces, turned.faces, strict=True):
        assert np.abs(one.frame_landmarks - other.frame_landmarks).mean() < 2


def two_people(samples: Path, tmp_path: Path) -> str:
    """P001 at the left in all twelve frames; P003 at the right, first smaller, in the last four frames larger."""
    one = read_frames(samples / "take_1/P001/happy/front.mp4")
    other = read_frames(samples / "take_1/P003/happy/front.mp4")
    scene = []
    for number, (left, right) in enumerate(zip(one, other, strict=True)):
        frame = np.full((384, 768, 3), 110, np.uint8)
        left, right = shrunk(left, 0.8), shrunk(right, 1.0 if number >= 8 else 0.6)
        frame[: left.shape[0], : left.shape[1]] = left
        frame[: right.shape[0], 384 : 384 + right.shape[1]] = right
        scene.append(frame)
    return write_clip(tmp_path / "two.mp4", scene)


def test_of_several_faces_the_subject_is_followed_though_another_becomes_larger(
    extractor: FaceExtractor, samples: Path, tmp_path: Path
) -> None:
    even = with_options(extractor, keyframe_rule="uniform")
    found = even.extract(two_people(samples, tmp_path))
    assert [face.frame for face in found.faces] == list(range(12))
    assert all(face.box[0] < 300 for face in found.faces)
    others = [item for item in found.rejected if item.reason == "other_face"]
    assert {item.frame for item in others} == set(range(12)), "a face left out is counted"


def test_a_clip_without_a_face_lists_every_frame(extractor: FaceExtractor, tmp_path: Path) -> None:
    found = extractor.extract(write_clip(tmp_path / "a.mp4", drawn(6, 192, 256)))
    assert not found.faces and found.frames_kept == len(found.rejected) > 0
    assert {item.reason for item in found.rejected} == {"no_face"}


def test_when_the_rules_frames_show_no_face_even_frames_are_tried(
    extractor: FaceExtractor, samples: Path, tmp_path: Path
) -> None:
    faces = read_frames(samples / "take_1/P001/happy/front.mp4")
    found = extractor.extract(write_clip(tmp_path / "a.mp4", [*faces, *[np.full_like(faces[0], 255)] * 12]))
    assert [face.frame for face in found.faces] == list(range(12))
    assert [item.frame for item in found.rejected] == list(range(12, 24))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_clip_that_does_not_stand_upright_is_turned_as_a_whole_and_it_is_noted(
    extractor: FaceExtractor, samples: Path, tmp_path: Path, turns: int
) -> None:
    frames = read_frames(samples / "take_1/P001/happy/front.mp4")
    upright = extractor.extract(write_clip(tmp_path / "a.mp4", frames))
    turned = extractor.extract(write_clip(tmp_path / "b.mp4", [np.rot90(frame, turns) for frame in frames]))
    assert [face.frame for face in turned.faces] == [face.frame for face in upright.faces]
    assert turned.rejected[0].reason == "turned" and str(90 * turns) in turned.rejected[0].detail
    given = read_frames(tmp_path / "b.mp4")
    for one, other in zip(upright.faces, turned.faces, strict=True):
        # Its places are those of the frame as it is given, and the same crop can be cut from there.
        crop = align.warp(given[other.frame], other.transform)
        assert np.abs(crop.astype(int) - other.image).mean() < 1
        backwards = View(turns).back(other, given[0].shape)
        assert np.abs(one.frame_landmarks - backwards.frame_landmarks).mean() < 3
        assert np.abs(one.box - backwards.box).max() < 8


def test_of_a_turned_clip_the_faces_left_out_are_where_it_shows_them(
    extractor: FaceExtractor, samples: Path, tmp_path: Path
) -> None:
    face = shrunk(read_frames(samples / "take_1/P001/happy/front.mp4")[-1], 0.6)
    side = len(face) - len(face) % 2
    crowd = np.tile(face[:side, :side], (2, 3, 1))
    crowd[side:, 2 * side :] = 110
    found = extractor.extract(write_clip(tmp_path / "a.mp4", [np.rot90(crowd, 2)] * 3))
    assert found.rejected[0].reason == "turned"
    others = [re.findall(r"\d+", left.detail) for left in found.rejected if left.reason == "other_face"]
    boxes = np.array([*others, *(face.box for face in found.faces)], float)
    # In each frame, as it is given, one face in each square but the first.
    squares = ((boxes[:, :2] + boxes[:, 2:] / 2) // side).astype(int).tolist()
    assert sorted(squares) == sorted([[x, y] for x in range(3) for y in range(2) if x + y] * 3)


def test_a_face_without_air_around_it_is_found_in_a_picture_and_in_a_clip(
    extractor: FaceExtractor, samples: Path, tmp_path: Path
) -> None:
    import cv2

    frame = read_frames(samples / "take_1/P001/happy/front.mp4")[-1]
    (whole,) = extractor.faces_in_image(frame)
    x, y, width, height = whole.box
    x, y = round(x + 0.04 * width), round(y + 0.04 * height)
    tight = np.ascontiguousarray(frame[y : y + 2 * int(0.46 * height), x : x + 2 * int(0.46 * width)])
    (found,) = extractor.faces_in_image(tight)
    assert np.abs(found.frame_landmarks + np.float32([x, y]) - whole.frame_landmarks).mean() < 6
    cv2.imwrite(str(tmp_path / "a.png"), tight[..., ::-1])
    assert len(extractor.extract(str(tmp_path / "a.png")).faces) == 1
    assert len(extractor.extract(write_clip(tmp_path / "a.mp4", [tight] * 4)).faces) == 4


def test_a_picture_is_looked_at_turned_where_that_is_asked_for(extractor: FaceExtractor, samples: Path) -> None:
    frame = read_frames(samples / "take_1/P001/happy/front.mp4")[-1]
    (upright,) = extractor.faces_in_image(frame)
    asked = with_options(extractor, turned=True)
    for turns in (1, 2, 3):
        lying = np.ascontiguousarray(np.rot90(frame, turns))
        (found,) = asked.faces_in_image(lying)
        assert np.abs(found.image.astype(int) - upright.image).mean() < 4, "the crop stands upright"
        backwards = View(turns).back(found, lying.shape)
        assert np.abs(backwards.box - upright.box).max() < 8, "the box lies in the picture as it was given"


def test_a_still_image_is_a_clip_of_one_frame(extractor: FaceExtractor, samples: Path, tmp_path: Path) -> None:
    import cv2

    frame = read_frames(samples / "take_1/P003/sad/half_right.mp4")[-1]
    cv2.imwrite(str(tmp_path / "a.png"), frame[..., ::-1])
    found = extractor.extract(str(tmp_path / "a.png"))
    (direct,) = extractor.faces_in_image(frame)
    assert found.frames_decoded == len(found.faces) == 1
    assert np.abs(found.faces[0].frame_landmarks - direct.frame_landmarks).mean() < 4


def test_faces_in_an_image_come_biggest_first(extractor: FaceExtractor, samples: Path) -> None:
    frame = read_frames(samples / "take_1/P001/happy/front.mp4")[-1]
    scene = np.full((384, 768, 3), 110, np.uint8)
    scene[:230, :230], scene[:, 384:] = shrunk(frame, 0.6), frame
    found = extractor.faces_in_image(scene)
    assert len(found) == 2 and found[0].box[0] > 384 > found[1].box[0]
    assert not extractor.faces_in_image(np.zeros((5, 5, 3), np.uint8))
    crowd = np.full((1000, 1000, 3), 110, np.uint8)
    crowd[:384, :384], crowd[800:896, 800:896] = frame, shrunk(frame, 0.25)
    assert len(extractor.faces_in_image(crowd)) == 2, "a small face beside a large one counts too"
    with pytest.raises(InputError, match="uint8"):
        extractor.faces_in_image(scene.astype(np.float32))


def test_after_a_decoder_that_died_the_extractor_goes_on(extractor: FaceExtractor, samples: Path) -> None:
    path = str(samples / "take_1/P001/happy/front.mp4")
    before = extractor.extract(path)
    os.kill(extractor.decoder.pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (extractor.decoder.pid, signal.SIGKILL)).start()
    with pytest.raises(ClipError) as caught:
        extractor.extract(path)
    assert caught.value.reason == "decoder_died"
    assert same(before, extractor.extract(path))


def test_an_error_in_the_middle_of_a_clip_does_not_leak_into_the_next(
    extractor: FaceExtractor, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(samples / "take_1/P001/happy/front.mp4")
    before = extractor.extract(path)
    with monkeypatch.context() as broken:
        broken.setattr(extractor._predictor, "predict", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            extractor.extract(path)
    assert same(before, extractor.extract(path))


def test_options_are_plain_json_and_wrong_ones_are_named() -> None:
    assert ExtractorOptions(**json.loads(json.dumps(asdict(ExtractorOptions())))) == ExtractorOptions()
    numbers = ({"max_keyframes": 0}, {"min_score": 1.5}, {"max_side": -1}, {"max_pixels": 0}, {"decode_timeout_s": 0.0})
    for wrong in ({"subject": "tallest"}, {"keyframe_rule": "best"}, *numbers):
        with pytest.raises(InputError, match=f"`{next(iter(wrong))}` must be"):
            ExtractorOptions(**wrong)


def scene(*tracks: list[tuple[int, float, float, float]]) -> list[Seen]:
    """Faces (frame, x, y, side) of several people as shares of a square frame, in order of time."""
    rows = sorted((row for track in tracks for row in track), key=lambda row: row[0])
    middle = np.array([0.5, 0.5])
    return [Seen(frame, frame / 25, np.array([x, y, side, side]), middle) for frame, x, y, side in rows]


def test_the_subject_is_chosen_by_the_named_rule() -> None:
    central = [(frame, 0.45, 0.45, 0.1) for frame in range(10)]
    large = [(frame, 0.0, 0.0, 0.3) for frame in range(6)]
    faces = scene(central, large)
    chosen = {rule: faces[choose_subject(faces, rule)[0]].box[2] for rule in ("center", "largest")}
    assert chosen == {"center": 0.1, "largest": 0.3}
    passer_by = [(3, 0.3, 0.3, 0.6)]
    faces = scene(central, passer_by)
    assert {faces[number].box[2] for number in choose_subject(faces, "largest")} == {0.1}


def test_people_who_cross_the_frame_keep_their_tracks() -> None:
    mover = [(frame, 0.05 * frame, 0.2, 0.2) for frame in range(12)]
    sitter = [(frame, 0.3, 0.6, 0.2) for frame in range(12)]
    faces = scene(mover, sitter)
    chosen = choose_subject(faces, "main")
    assert len(chosen) == 12 and len({faces[number].box[1] for number in chosen}) == 1


def test_a_subject_who_left_and_came_back_elsewhere_is_one_subject() -> None:
    faces = scene([(0, 0.1, 0.1, 0.2), (1, 0.1, 0.1, 0.2)], [(30, 0.7, 0.6, 0.22), (31, 0.7, 0.6, 0.22)])
    assert choose_subject(faces, "main") == [0, 1, 2, 3]
    assert choose_subject([], "main") == []
