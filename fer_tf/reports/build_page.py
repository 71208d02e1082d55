"""The build's report.html: the corpus on one page that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fer_tf.data.tasks import UNITS
from fer_tf.labels import SETTINGS, SPLITS, TASK_NAMES, TASKS
from fer_tf.reports import agreement_section
from fer_tf.reports.page import render
from fer_tf.reports.section import section
from fer_tf.reports.sheets import SheetFace, sheet
from fer_tf.reports.tables import MARKED, OWN, PLAIN, Cell, Table

REASONS = {
    "reviewers_disagree": "the reviewers do not agree",
    "reviewers_contradict_label": "the reviewers agree on another label",
    "not_reviewed": "no reviewer has looked",
    "duplicate_row": "the same row stands there twice",
    "conflicting_rows": "rows say different things of one clip",
    "unknown_pose": "the pose is none that is known",
    "unknown_expression": "the expression is not in the labels file",
    "outside_root": "the path leads out of the videos' root",
    "outside_glob": "the path does not match the glob",
    "wrong_number_of_columns": "the row has too few or too many values",
    "empty_value": "a needed value is empty",
    "bad_age": "the age is no number of years",
    "missing": "there is no such file",
    "empty_file": "the file is empty",
    "truncated": "the file was cut off",
    "not_a_video": "the file is no video or image",
    "no_frames": "the video has no frames",
    "too_large": "the frames have too many pixels",
    "decoder_timeout": "the decoder fell silent",
    "decoder_died": "the decoder crashed",
    "failed": "an error that nobody foresaw; its text is listed",
    "no_face": "a kept frame shows no face",
    "landmarks_off": "the landmarks do not sit on the face",
    "other_face": "a face that is not the clip's subject",
    "damaged_packets": "a part of the video could not be decoded",
    "no_face_in_clip": "no kept frame shows a face",
}
LEAKS = {
    "persons": "persons in several parts",
    "clips": "clips in several parts",
    "moments": "moments in several parts",
    "near_duplicate_faces": "faces with a near-duplicate in another part",
    "equal_pixel_faces": "of these with equal pixels",
    "test_faces_near_train": "test faces near a training face",
}


def page(dataset: dict[str, Any], faces: Sequence[SheetFace]) -> str:
    """Returns the page.

    Args:
      dataset: what dataset.json says.
      faces: a face of each expression and pose.
    """
    unit = dataset["tasks"]["er_ss"]["unit"]
    units = {f"{name} (this build)" if name == unit else name: dataset["leaks"][f"er_ss/{name}"] for name in UNITS}
    rejected = [(reason, REASONS.get(reason, ""), f"{count:,}") for reason, count in dataset["rejected"].items()]
    return render(
        "build.html",
        dataset=dataset,
        section=section(dataset["statistics"], sheet(faces, dataset["expressions"], dataset["poses"])),
        tasks=_tasks(dataset["tasks"]),
        agreement=agreement_section.tables(dataset["agreement"]) if dataset["agreement"] else (),
        leaks=_leaks("leaks", "Shared between parts", {_name(task): dataset["leaks"][task] for task in TASKS}),
        units=_leaks("units", "ER-SS by image, clip or person", units),
        rejected=_plain(
            "rejected",
            "",
            ("reason", "meaning", "count"),
            rejected,
            "rejected.jsonl lists each with its line or frame.",
        ),
        flags=_plain("flags", "Flags", ("flag", "value"), [(k, str(v)) for k, v in dataset["config"].items()]),
    )


def _name(task: str) -> str:
    return f"{TASK_NAMES[task]}, {SETTINGS[task]}"


def _tasks(tasks: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = []
    for task in TASKS:
        parts = tasks[task]
        notes = (
            f"split by {parts['unit']}" if parts.get("unit") else "",
            f"rare: {', '.join(parts['rare_expressions'])}" if parts.get("rare_expressions") else "",
            f"rare: {parts['rare_pose']}" if parts.get("rare_pose") else "",
        )
        note = "; ".join(filter(None, notes))
        counts = (Cell(f"{parts[part]:,}") for part in SPLITS)
        rows.append((Cell(_name(task), note=note), *counts))
    return Table("tasks", "The four tasks (section 4.1), faces", ("task", *SPLITS), tuple(rows), right=True)


def _leaks(key: str, title: str, counts: Mapping[str, Mapping[str, int]]) -> Table:
    rows = []
    for name, shared in counts.items():
        cells = (Cell(f"{shared[kind]:,}", MARKED if shared[kind] else PLAIN) for kind in LEAKS)
        rows.append((Cell(name, OWN if "(this build)" in name else PLAIN), *cells))
    return Table(key, title, ("task" if key == "leaks" else "unit", *LEAKS.values()), tuple(rows), right=True)


def _plain(key: str, title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], *notes: str) -> Table:
    return Table(key, title, columns, tuple(tuple(Cell(text) for text in row) for row in rows), notes)
