"""A card's numbers are the run's; what is not known is said in words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fer_tf.evaluation.across import score_found, score_relative, score_tightness
from fer_tf.evaluation.scores import score
from fer_tf.reports import evaluation_page, model_card
from tests.toy_data import part_of as part

SPEC = {
    "expressions": ["a", "b", "c"],
    "variant": "light_cnn_9",
    "image_size": 48,
    "channels": 1,
    "task": "fer2013",
    "temperature": 1.3,
    "data_fingerprint": "f00",
    "landmark_model": "shape_predictor_68_face_landmarks.dat",
}


def facts(metrics: dict[str, Any]) -> dict[str, Any]:
    versions = {"tensorflow": "2", "keras": "3"}
    about = {"model_name": "fa_net", "version": 3, "precision": "float32", "spec": SPEC, "exported": "today"}
    return {**about, "versions": versions, "metrics": json.loads(json.dumps(metrics))}


def scores(persons: list[str]) -> dict[str, Any]:
    """Of 90 faces of three classes and two poses the first 60 are right."""
    labels = np.arange(90) % 3
    logits = 5.0 * np.eye(3)[np.where(np.arange(90) < 60, labels, (labels + 1) % 3)]
    poses = ["front", "half_left"] * 45
    faces = part([str(index) for index in range(90)], labels, [b""] * 90, persons=persons, poses=poses)
    return score(faces, logits, ("a", "b", "c"), 1.3)


def test_the_card_of_an_export_shows_the_scores_that_the_run_measured() -> None:
    card = model_card.exported(facts({"test": scores([""] * 90)}))
    assert card.startswith("# fa_net, version 3\n")
    assert "| test | 90 | 66.7 % (" in card and "| front | 45 | 66.7 % (" in card
    assert "iBUG 300-W" in card and "FER2013 (Goodfellow" in card and "## Training" not in card
    assert "light_cnn_9 with Max-Feature-Map and batch normalization, 48 x 48 grey" in card


def test_the_card_of_a_run_that_was_not_evaluated_says_so() -> None:
    card = model_card.exported(facts({}))
    assert "The run was not evaluated." in card and "Confusion" not in card


def test_an_interval_that_cannot_be_had_is_said_in_words() -> None:
    card = model_card.exported(facts({"test": scores(["P001"] * 90)}))
    assert "| test | 90 | 66.7 % (no interval: fewer than two persons) |" in card and "nan" not in card


def found(right: int) -> dict[str, Any]:
    """Of 30 faces of three classes the first are right, then comes one that was not found."""
    labels = np.arange(30) % 3
    logits = 5.0 * np.eye(3)[np.where(np.arange(30) < right, labels, (labels + 1) % 3)]
    faces = part([str(index) for index in range(30)], labels, [b""] * 30)
    seen = np.arange(30) != 29
    view = score_found(faces, logits, seen, ("a", "b", "c"), 1.0)
    tightness = score_tightness(labels, {0.75: logits, 1.0: logits}, seen, 3)
    return {"end_to_end": {**view, "tightness": tightness, "relative": score_relative(faces, logits, seen, 3, 1.0)}}


def test_another_set_is_told_class_by_class_beside_anothers_network() -> None:
    across = {"jaffe": {**found(21), "beside": {"other": found(15)}, "beside_notes": ["other: as it comes."]}}
    card = model_card.exported(facts({"test": scores([""] * 90), "across": across}))
    assert "| JAFFE, end to end | Fa-Net | 30 | 1 | 70.0 % (" in card
    assert "| JAFFE, end to end | other | 30 | 1 | 50.0 % (" in card and "other: as it comes." in card
    assert "| expression | faces | Fa-Net | other |\n|---|---|---|---|\n| a | 10 | 70.0 | 50.0 |" in card
    assert "| JAFFE, end to end | other | 50.0 | 50.0 |" in card and "| set | network | 0.75 | 1 |" in card
    assert "| JAFFE, end to end | Fa-Net | the mean of all faces | 70.0 | 70.0 | 70.0 |" in card


def test_a_view_with_too_few_faces_has_no_relative_answers_on_the_page() -> None:
    (whole,) = found(21).values()
    few = {**whole, "relative": []}
    about = {"spec": {"task": "fer2013"}, "expressions": ["a", "b", "c"], "judged": "all faces", "notes": []}
    about |= {"left_out": {}, "data_fingerprint": "0"}
    shown = evaluation_page.page({}, {"jaffe": {**about, "as_given": whole, "end_to_end": few}})
    row = shown[shown.index("half of the mean of all faces") :].split("</tr>")[0]
    assert "70.0 (70.0)" in row and "too few" in row
    assert "relative to the mean" not in evaluation_page.page({}, {"jaffe": {**about, "end_to_end": few}})


def test_sets_that_were_trained_on_together_are_told_apart() -> None:
    both = {"fer2013": scores([""] * 90), "ferplus": scores([""] * 90)}
    card = model_card.exported(facts({"test": scores([""] * 90), "test_by_set": both}))
    assert "| test of FER2013, its 3 classes | 90 | 66.7 % (" in card and "Confusion, FER+ (" in card
    assert "FER2013 (Goodfellow" in card and "MIT licence" in card and "| FER+, pose | faces |" in card


def test_a_set_without_a_test_face_is_no_row_of_the_card() -> None:
    sets = {"fer2013": scores([""] * 90), "kdef": {"faces": 0}}
    card = model_card.exported(facts({"test": scores([""] * 90), "test_by_set": sets}))
    assert "| test of FER2013, its 3 classes | 90 |" in card and "test of KDEF" not in card
    assert "FER2013 (Goodfellow" in card and "The data of the task kdef" in card


def test_a_card_names_the_network_the_machine_and_the_part_that_were_used() -> None:
    metrics: dict[str, Any] = {"training": {"epoch": 2, "seconds": 7200.0, "best_epoch": 1}, "kept": "best"}
    for gpus, where in (([], "on 16 shared CPU cores (L)"), (["a"], "on 1 GPU (L)"), (["a", "b"], "on 2 GPUs (L)")):
        assert f"2 epochs in 2.0 hours {where};" in model_card._training(metrics, {"cores": 16, "gpus": gpus}, "L")
    assert "batch normalization" not in model_card._network({**SPEC, "variant": "dlib_resnet"}, "fer2013")[0][1]
    for notes, used in (([], "PrivateTest was not used"), (["test is PrivateTest"], "PrivateTest was used")):
        assert used in model_card._rights(SPEC, ("fer2013",), {"notes": notes})[0]
    judged = {"finished": True, "val": {"faces": 0}, "training": {}, "spec": {"temperature": 1.4}}
    for flags, origin in (({"teacher": "t"}, "its teacher's"), ({"init_from": "i", "teacher": "t"}, "it began with")):
        assert origin in model_card._temperature(judged, flags)
    assert "nothing" in model_card._temperature({**judged, "spec": {"temperature": 1}}, {"teacher": "t"})
