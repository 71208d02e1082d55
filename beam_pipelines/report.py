"""report.html: the corpus on one page that needs no other file."""

from __future__ import annotations

import base64
import importlib.resources
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from beam_pipelines import extract, write
from beam_pipelines.assign import Labels
from beam_pipelines.chunks import Census
from fer_tf.data.schema import decode
from fer_tf.data.statistics import POSE_LETTERS
from fer_tf.data.tasks import UNITS, SplitPlan, stable_hash
from fer_tf.evaluation.tables import TABLE_1
from fer_tf.labels import TASKS

# Rows of the sheet of faces; more would not be looked at.
SHEET_EXPRESSIONS = 16
THUMBNAIL = 96
TITLE_INCHES, BAR_INCHES = 0.32, 0.26

TASK_NAMES = {
    "er_ss": "ER-SS, standard setting",
    "er_ue": "ER-UE, rare expressions",
    "er_up": "ER-UP, rare pose",
    "er_zid": "ER-ZID, unseen persons",
}
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
LEAK_COLUMNS = (
    ("persons", "persons in several parts"),
    ("clips", "clips in several parts"),
    ("moments", "moments in several parts"),
    ("near_duplicate_faces", "faces with a near-duplicate in another part"),
    ("equal_pixel_faces", "of these with equal pixels"),
    ("test_faces_near_train", "test faces near a training face"),
)


@dataclass(frozen=True)
class SheetFace:
    """One face of the sheet, as data URIs."""

    image_id: str
    expression: str
    pose: str
    image: str
    mask: str


def sample_faces(building: str, census: Census, labels: Labels, limits: SplitPlan) -> list[SheetFace]:
    """Returns a face of every expression and pose, from a clip that a stable hash chooses.

    Args:
      building: folder of the chunks and their indexes.
      census: what the annotations hold.
      labels: the vocabularies.
      limits: the tasks' limits.
    """
    chosen: dict[tuple[str, str], tuple[int, Any]] = {}
    shown = set(labels.expressions[:SHEET_EXPRESSIONS])
    for chunk in census.chunks:
        for clip in write.tagged_clips(building, chunk, labels, limits):
            cell = clip.clip.expression, clip.clip.pose
            rank = stable_hash(f"sheet/{clip.clip.clip_id}")
            if cell[0] in shown and rank < chosen.get(cell, (1 << 64, None))[0]:
                chosen[cell] = rank, clip
    faces = []
    for (expression, pose), (_, clip) in chosen.items():
        # Late in the clip the expression is at its strongest.
        wanted = (3 * (len(clip.frames) - 1)) // 4
        record = next(face for place, face in enumerate(extract.read_faces(clip.cache)) if place == wanted)
        face = decode(record)
        faces.append(SheetFace(face.image_id, expression, pose, _thumbnail(face.image, ".jpg"), _thumbnail(face.mask)))
    return faces


def _thumbnail(encoded: bytes, form: str = ".png") -> str:
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    content = base64.b64encode(cv2.imencode(form, small)[1].tobytes()).decode()
    return f"data:image/{'jpeg' if form == '.jpg' else 'png'};base64,{content}"


def render(dataset: dict[str, Any], faces: Sequence[SheetFace]) -> str:
    """Returns the page.

    Args:
      dataset: what dataset.json says.
      faces: the sheet of faces.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["thousands"] = lambda value: f"{value:,}" if isinstance(value, int) else value
    template = environment.from_string(
        importlib.resources.files("beam_pipelines").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    stats = dataset["statistics"]
    own = stats["table_1"]
    row = [own["expressions"], own["subjects"], own["poses"], own["images"], own["sequences"]]
    cells = {(face.expression, face.pose): face for face in faces}
    return template.render(
        dataset=dataset,
        stats=stats,
        table_1=TABLE_1,
        own=[*(f"{value:,}" for value in row), own["resolution"], own["pose_list"]],
        per_expression=_bars(stats["images_per_expression"], "images"),
        images_per_pose=_bars(_lettered(stats["images_per_pose"]), "images"),
        subjects_per_pose=_bars(_lettered(stats["subjects_per_pose"]), "subjects"),
        sheet=[
            (expression, [cells.get((expression, pose)) for pose in dataset["poses"]])
            for expression in dataset["expressions"]
            if any(face.expression == expression for face in faces)
        ],
        hidden=max(len(dataset["expressions"]) - SHEET_EXPRESSIONS, 0),
        tasks=[(TASK_NAMES[task], dataset["tasks"][task], dataset["leaks"][task]) for task in TASKS],
        units=[(unit, dataset["leaks"][f"er_ss/{unit}"]) for unit in UNITS],
        leak_columns=LEAK_COLUMNS,
        rejected=[(reason, REASONS.get(reason, ""), count) for reason, count in dataset["rejected"].items()],
    )


def _lettered(counts: dict[str, int]) -> dict[str, int]:
    return {f"{pose} ({POSE_LETTERS[pose]})": count for pose, count in counts.items()}


def _bars(counts: dict[str, int], unit: str) -> str:
    """A bar chart as inline SVG."""
    import matplotlib.figure
    from jinja2.utils import markupsafe

    names, values = list(counts), list(counts.values())
    height = TITLE_INCHES + BAR_INCHES * len(names)
    figure = matplotlib.figure.Figure(figsize=(7.2, height))
    axes = figure.add_axes((0.24, 0.0, 0.68, 1 - TITLE_INCHES / height))
    axes.barh(names, values, height=0.66, color="#2f6f8f")
    axes.invert_yaxis()
    axes.set_xlim(0, max(values, default=1) * 1.12 or 1)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for place, value in enumerate(values):
        axes.text(value, place, f" {value:,}", va="center", fontsize=9, color="#22303a")
    axes.tick_params(left=False, bottom=False, labelbottom=False, labelsize=9)
    axes.set_title(unit, fontsize=9, loc="left", color="#5a6b76")
    for side in axes.spines.values():
        side.set_visible(False)
    content = io.StringIO()
    # The page's own fonts and no date: equal corpora give equal pages.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fer_tf", "font.family": "sans-serif"}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    text = content.getvalue()
    return markupsafe.Markup(text[text.index("<svg") :])
