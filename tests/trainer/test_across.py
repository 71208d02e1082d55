"""A network is scored on a set that it was not trained for, as given and as a user's pictures are looked at."""

from __future__ import annotations

import dataclasses
import json
import os

import cv2
import numpy as np
import pytest

from fer_tf import files
from fer_tf.config import of, replace
from fer_tf.data import public
from fer_tf.data.inputs import decode_image, read_records
from fer_tf.data.preprocess import preprocess
from fer_tf.errors import InputError
from fer_tf.faces.extractor import FaceExtractor
from fer_tf.models import fa_net, lineage
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.recognition.recognizer import Recognizer
from fer_tf.resources import resource
from tests.fer_tf.data.test_public import write
from trainer import across
from trainer.config import TaskConfig
from trainer.task import main


@pytest.fixture(scope="module")
def pictures(samples, tmp_path_factory):
    """The last frame of each front view by expression, one as of a class that FER2013 lacks, and one of noise."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, clip in enumerate(sorted(samples.glob("take_1/P00[134]/*/front.mp4"))):
        video, frames = cv2.VideoCapture(str(clip)), []
        while (read := video.read())[0]:
            frames.append(read[1])
        name = clip.parent.name if number else "bored"
        write(f"{folder}/{name}/{number}.png", cv2.imencode(".png", frames[-1])[1].tobytes())
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    write(f"{folder}/sad/noise.png", cv2.imencode(".png", noise)[1].tobytes())
    return folder


def png(text: str) -> bytes:
    """A picture of noise that is its text's own."""
    noise = np.random.default_rng(list(text.encode())).integers(0, 256, (40, 40, 3), np.uint8)
    return cv2.imencode(".png", noise)[1].tobytes()


@pytest.fixture(scope="module")
def run_dir(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("across") / "run"
    flags = ["--stage=evaluate", "--task=pictures", "--init_from=pretrained", f"--run_dir={folder}"]
    assert main([*flags, f"--data={pictures}"]) == 0
    return folder


def test_what_is_scored_end_to_end_is_what_a_user_is_answered(run_dir, pictures):
    (path,) = (run_dir / "evaluations").glob("*.json")
    assert path.name == f"pictures-{pictures.name}.json" and not (run_dir / "metrics.json").exists()
    found = json.loads(path.read_text())
    scores = found["end_to_end"]
    assert scores["lost"] == 1 and sum(row[-1] for row in scores["confusion"]) == 1
    assert found["as_given"]["lost"] == 0 and found["judged"] == "all faces"
    right = total = 0
    with Recognizer.load("pretrained") as recognize:
        for picture in sorted(pictures.glob("*/*.png")):
            if (label := picture.parent.name) not in found["expressions"]:
                continue
            table = recognize([str(picture)]).table()
            total += 1
            if len(table):
                first = table[table["face"] == 1] if "face" in table else table
                right += max(found["expressions"], key=lambda name: float(first.iloc[0][name])) == label
    assert total == scores["faces"] and scores["accuracy"] == pytest.approx(right / total)


def test_the_mean_answer_to_several_views_is_scored_as_a_user_is_answered(pictures, tmp_path):
    some = tmp_path / "some"
    for picture in sorted(pictures.glob("*/*.png"))[::2]:
        write(some / picture.parent.name / picture.name, picture.read_bytes())
    flags = ["--stage=evaluate", "--task=pictures", "--init_from=pretrained", f"--run_dir={tmp_path}/run"]
    assert main([*flags, f"--data={some}", "--tta=views"]) == 0
    found = json.loads(next((tmp_path / "run" / "evaluations").glob("*.json")).read_text())
    scores, names = found["end_to_end"], found["expressions"]
    assert found["tta"] == "views" and scores["faces"] >= 6
    rows, sure = {name: [0] * (len(names) + 1) for name in names}, []
    with Recognizer.load("pretrained", tta="views") as recognize:
        for picture in sorted(some.glob("*/*.png")):
            table = recognize([str(picture)]).table()
            answered = table.iloc[0][names].to_numpy(float) if len(table) else np.zeros(0)
            if picture.parent.name in rows:
                rows[picture.parent.name][int(answered.argmax()) if len(answered) else -1] += 1
                # The set's classes are fewer than the network's.
                sure += [answered.max() / answered.sum()] if len(answered) else []
    assert scores["confusion"] == list(rows.values())
    # One view alone is sure of other answers, or otherwise sure.
    assert scores["calibration"]["mean_confidence"] == pytest.approx(np.mean(sure), abs=1e-4)


def test_the_mean_answer_of_two_networks_is_scored_as_a_user_is_answered(run_dir, pictures, tmp_path):
    _, spec = fa_net.load(resource("pretrained"))
    other = str(tmp_path / "other")
    # An untrained head answers hardly anything but what its bias says.
    model = fa_net.build(spec, seed=5)
    model.get_layer("logits").bias.assign(np.linspace(2, 0, len(spec.expressions)))
    fa_net.save(other, model, dataclasses.replace(spec, temperature=1.0))
    both = f"pretrained+{other}"
    flags = ["--stage=evaluate", "--task=pictures", f"--init_from={both}", f"--run_dir={tmp_path}/both"]
    assert main([*flags, f"--data={pictures}"]) == 0
    first, found = (
        json.loads(next((folder / "evaluations").glob("*.json")).read_text()) for folder in (run_dir, tmp_path / "both")
    )
    assert found["spec"]["variant"] == "light_cnn_9+light_cnn_9"
    scores, names = found["end_to_end"], found["expressions"]
    assert scores["confusion"] != first["end_to_end"]["confusion"]
    with Recognizer.load(both) as recognize:
        labels = [picture.parent.name for picture in sorted(pictures.glob("*/*.png"))]
        tables = [recognize([str(picture)]).table() for picture in sorted(pictures.glob("*/*.png"))]
    answers = [names[int(table.iloc[0][names].to_numpy(float).argmax())] if len(table) else "" for table in tables]
    right = [answer == label for answer, label in zip(answers, labels, strict=True) if label in names]
    assert len(right) == scores["faces"] and scores["accuracy"] == pytest.approx(np.mean(right))


def test_a_set_far_away_is_scored_again_without_looking_for_its_faces_again(pictures, tmp_path, monkeypatch):
    some = tmp_path / "some"
    for picture in sorted(pictures.glob("*/*.png"))[::6]:
        write(some / picture.parent.name / picture.name, picture.read_bytes())
    local, far = public.folder_of("pictures", str(some)), f"ram://across{tmp_path}"
    # Far away in memory an empty list of what was left out would not be there.
    for path in filter(os.path.getsize, files.matching(local, files.ANY_DEPTH)):
        files.put(path, files.join(far, os.path.relpath(path, local)))
    flags = ["--stage=evaluate", "--task=pictures", "--init_from=pretrained", f"--data={far}"]
    found = []
    for name in ("first", "second"):
        assert main([*flags, f"--run_dir={tmp_path}/{name}"]) == 0
        found.append(json.loads(next((tmp_path / name / "evaluations").glob("*.json")).read_text())["end_to_end"])
        monkeypatch.setattr(FaceExtractor, "faces_in_image", None)
    assert found[0] == found[1] and found[0]["faces"] >= 3


def test_networks_that_see_other_things_have_no_mean_answer(tmp_path):
    spec = FaNetSpec(("happy", "sad"), image_size=33)
    for name, change in (("first", {}), ("labels", {"expressions": ("sad", "happy")}), ("side", {"image_size": 36})):
        changed = dataclasses.replace(spec, **change)
        fa_net.save(str(tmp_path / name), fa_net.build(changed), changed)
    folders = {name: str(tmp_path / name) for name in ("first", "labels", "side")}
    for other in ("labels", "side"):
        with pytest.raises(InputError, match=f"has the (expressions|image_size) .*{other}' has"):
            fa_net.load_joined(f"{folders['first']}+{folders[other]}")
    with pytest.raises(InputError, match=r"`source` joins .* has the expressions \('happy', 'sad'\), "):
        Recognizer.load(f"{folders['first']}+{folders['labels']}")
    # A user's faces are brought to each network's own size.
    Recognizer.load(f"{folders['first']}+{folders['side']}").close()


def test_the_tables_stand_on_the_page(run_dir):
    page = (run_dir / "evaluation.html").read_text()
    assert "which it was not trained for" in page and "end to end" in page and "unsure" in page
    found = json.loads(next((run_dir / "evaluations").glob("*.json")).read_text())
    assert [row["share"] for row in found["end_to_end"]["tightness"]][::5] == [0.6, 0.85, 1.1]
    assert "half of the mean of all faces" in page and found["end_to_end"]["relative"][0]["to"] == "all faces"
    assert found["left_out"]["bored"] == 1 and "bored" not in found["expressions"]


def test_a_network_that_has_seen_the_test_part_is_refused(toy_data, tmp_path):
    faces = read_records(toy_data, "er_ss")
    folder = str(tmp_path / "run" / "fa_net")
    spec = FaNetSpec(faces.expressions, image_size=33, task="er_ss", data_fingerprint=faces.fingerprint)
    fa_net.save(folder, fa_net.build(spec), spec)
    lineage.write(folder, lineage.of_training(faces, "er_ss", {}))
    flags = ["--stage=evaluate", f"--run_dir={tmp_path}/run", f"--data={toy_data}"]
    with pytest.raises(InputError, match="was trained on this data for the task 'er_ss'"):
        main([*flags, "--task=er_zid"])


@pytest.mark.parametrize("task", ["mixed", "kdef"])
@pytest.mark.parametrize(("seen", "which"), [("pictures", "test part"), ("other", "all faces")])
def test_the_images_tell_whether_a_network_of_another_set_has_seen_this_one(task, seen, which, tmp_path):
    from fer_tf.data import mixed
    from trainer.across import judged

    for name in ("pictures", "other"):
        rows = ["image,expression,split"]
        for number, split in enumerate(["train", "train", "test", "test"]):
            label = ("happy", "sad")[number % 2]
            write(f"{tmp_path}/{name}/{number}.png", png(f"{name} {number}"))
            rows.append(f"{number}.png,{label},{split}")
        (tmp_path / name / "annotations.csv").write_text("\n".join(rows))
    faces = mixed.read_set("pictures", str(tmp_path / "pictures"))
    trained_on = mixed.read_set("pictures", str(tmp_path / seen))
    spec = FaNetSpec(("happy", "sad"), image_size=33, task=task)
    fa_net.save_spec(str(tmp_path / "network"), spec)
    lineage.write(str(tmp_path / "network"), lineage.of_training(trained_on, task, {}))
    part, told = judged(str(tmp_path / "network"), faces, "pictures")
    assert told == which and len(part) == (2 if seen == "pictures" else 4)


def test_of_the_four_tasks_aligned_faces_as_much_is_seen_as_in_use(tiny, toy_data, tmp_path):
    faces = read_records(toy_data, "er_ss")
    spec = FaNetSpec(faces.expressions, image_size=16, crop=0.9, aligned_crop=0.75)
    model = fa_net.build(spec, seed=1)
    part = faces.parts["test"]
    pictures = np.stack([decode_image(encoded).numpy() for encoded, _ in part.encoded().as_numpy_iterator()])
    for task, share in (("er_ss", 0.75), ("jaffe", 0.9)):
        answers, _ = across._given(model, spec, part, of(TaskConfig, task=task, data=toy_data), ())
        expected = model.predict_on_batch(preprocess(pictures, 16, 1, share))
        np.testing.assert_allclose(answers[0.0], expected, atol=1e-5)


def test_two_sets_whose_folders_have_one_name_have_an_evaluation_each(tmp_path):
    run = of(TaskConfig, task="pictures", stage="evaluate", run_dir=str(tmp_path / "run"))

    def scored(data, fingerprint):
        config = replace(run, data=str(tmp_path / data))
        name = across.name_of(config, fingerprint)
        run.folder.write_evaluation(name, {"place": across._place(config), "data_fingerprint": fingerprint})
        return name

    first, second = scored("a/test", "1"), scored("b/test", "2")
    assert first == "pictures-test" and second.startswith("pictures-test~")
    # Scored again, changed or not, each takes its own place, and a set that was moved its former one.
    assert (scored("b/test", "3"), scored("a/test", "4"), scored("c/test", "4")) == (second, first, first)
    assert str(tmp_path) not in json.dumps(run.folder.read_evaluations())


def test_a_network_to_begin_with_is_not_ignored_where_the_run_has_one(tmp_path):
    spec = FaNetSpec(("happy", "sad"), image_size=33, task="kdef")
    fa_net.save_spec(str(tmp_path / "run" / "fa_net"), spec)
    flags = ["--stage=evaluate", f"--run_dir={tmp_path}/run", "--task=jaffe", f"--data={tmp_path}"]
    with pytest.raises(InputError, match=r"`init_from` is scored .*'pretrained', and .*run has one; leave it out"):
        main([*flags, "--init_from=pretrained"])
