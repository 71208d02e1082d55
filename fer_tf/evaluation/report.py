"""`python -m fer_tf.evaluation.report`: the paper's figures and tables from a user's own data and runs, on one page."""

from __future__ import annotations

import dataclasses
import json
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fer_tf import files
from fer_tf.config import EXIT_OK, parse, run_command
from fer_tf.errors import InputError
from fer_tf.evaluation import figures, tables
from fer_tf.evaluation.corpus import Corpus, read_corpus
from fer_tf.evaluation.runs import Run, best, find_runs, read_unscored
from fer_tf.evaluation.tables import Table

PAGE_FILE, TABLES_FOLDER = "report.html", "tables"
SHEET_EXPRESSIONS = 16
NEEDS_DATA = "needs a data folder: python -m beam_pipelines.build"
NO_LANDMARKS = "this set has no landmarks; needs a data folder: python -m beam_pipelines.build"
# With one pose, the maps of this many expressions fit in one row.
ROW_EXPRESSIONS = 8


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows.

    Attributes:
      runs: folder of run folders, or one run folder.
      data: data folder written by beam_pipelines.build, or a public set in one of its published layouts.
      output: where report.html and tables/ go.
      groups: k of the k-means over the expressions' eye features; the paper has 4.
      max_faces: faces measured for the groups, spread evenly over the data; 0 measures all.
      saliency_faces: faces for each expression and pose in the mean saliency maps; 0 leaves them out.
      seed: of k-means and of the bootstrap samples.
    """

    runs: str = "runs"
    data: str = "data/faces"
    output: str = "report"
    groups: int = 4
    max_faces: int = 4000
    saliency_faces: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.groups < 2:
            raise InputError(f"`groups` must be at least 2. Received: {self.groups}.")
        for name in ("max_faces", "saliency_faces", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"`{name}` must not be negative. Received: {getattr(self, name)}.")


@dataclass(frozen=True)
class Picture:
    """One figure of the page: `uri` is empty when there is none, and `text` then says what it would need."""

    title: str
    text: str
    lines: tuple[str, ...] = ()
    uri: str = ""
    alt: str = ""
    wide: bool = False


@dataclass
class Clock:
    """Seconds by part of the report, on the clock and of this process' processor time."""

    seconds: dict[str, float] = field(default_factory=dict)
    processor_seconds: dict[str, float] = field(default_factory=dict)
    _started: tuple[float, float] = field(default_factory=lambda: (time.monotonic(), time.process_time()))

    def lap(self, part: str) -> None:
        now = time.monotonic(), time.process_time()
        self.seconds[part], self.processor_seconds[part] = now[0] - self._started[0], now[1] - self._started[1]
        self._started = now


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the report and returns the exit code."""
    config, _ = parse(
        ReportConfig,
        argv,
        prog="python -m fer_tf.evaluation.report",
        description="The paper's figures and tables from your data and runs: one HTML page, and CSV and LaTeX.",
    )
    clock = write_report(config)
    seconds = ", ".join(f"{part} {value:.1f}" for part, value in clock.seconds.items())
    print(f"{Path(config.output, PAGE_FILE)} ({sum(clock.seconds.values()):.1f} s: {seconds})")
    return EXIT_OK


def write_report(config: ReportConfig) -> Clock:
    """Writes report.html and tables/ and returns where the time went.

    Raises:
      InputError: when there is neither data nor a run to report.
    """
    clock = Clock()
    runs = find_runs(config.runs)
    corpus = read_corpus(config.data)
    if corpus is None and not runs:
        raise InputError(
            f"nothing to report: `data` {config.data!r} has no dataset.json and `runs` {config.runs!r} no metrics.json."
            " Run `python -m beam_pipelines.build` and `python -m trainer.task` first."
        )
    made = [
        tables.table_1(corpus.statistics, corpus.name) if corpus else tables.table_1(None),
        tables.table_2(runs),
        tables.table_3(runs),
        tables.table_4(runs),
        tables.table_5(runs),
    ]
    clock.lap("tables")
    pictures = corpus_pictures(config, corpus)
    clock.lap("corpus figures")
    pictures["groups"] = group_picture(config, corpus)
    clock.lap("eye features and groups")
    pictures["gan"] = gan_pictures(config.runs)
    pictures["confusion"] = confusion_pictures(runs)
    clock.lap("confusion and GAN figures")
    pictures["saliency"] = saliency_picture(config, corpus, runs)
    clock.lap("saliency")
    _write(config, made, pictures, corpus, runs, clock)
    return clock


def corpus_pictures(config: ReportConfig, corpus: Corpus | None) -> dict[str, list[Picture]]:
    """Returns Figs. 2, 3(b) and 4."""
    titles = ("Fig. 2. Images per expression", "Fig. 3(b). Subjects and images per pose", "Fig. 4. Faces and masks")
    if corpus is None:
        return {"corpus": [Picture(title, NEEDS_DATA) for title in titles]}
    stats = corpus.statistics
    expressions = stats["images_per_expression"]
    per_expression = figures.images_per_expression(expressions, "")
    least, most = min(expressions, key=expressions.get), max(expressions, key=expressions.get)
    text = f"{len(expressions)} expressions, from {expressions[least]:,} ({least}) to {expressions[most]:,} ({most})."
    pictures = [_svg(per_expression, titles[0], text), _pose_picture(stats, titles[1])]
    if corpus.faces is None:
        pictures.append(face_sheet(config.data, stats, titles[2]))
    else:
        pictures.append(Picture(titles[2], NO_LANDMARKS))
    return {"corpus": pictures}


def _pose_picture(stats: dict[str, Any], title: str) -> Picture:
    images, subjects = stats["images_per_pose"], stats["subjects_per_pose"]
    if not any(subjects.values()):
        return Picture(title, "needs faces whose pose and person are known, which this set does not tell")
    figure = figures.subjects_and_images_per_pose(images, subjects, "")
    poses = "; ".join(
        f"{pose.replace('_', ' ')} {count:,} images of {subjects[pose]} subjects" for pose, count in images.items()
    )
    return _svg(figure, title, poses + ".")


def face_sheet(data: str, stats: dict[str, Any], title: str) -> Picture:
    """Returns Fig. 4: a face and its mask for each expression and pose, from as few record files as have them."""
    from fer_tf.evaluation.faces import first_faces

    poses = [pose for pose, count in stats["images_per_pose"].items() if count]
    names = [name for name, count in stats["images_per_expression"].items() if count]
    found = first_faces(data, names[:SHEET_EXPRESSIONS], poses)
    rows = []
    for name in names[:SHEET_EXPRESSIONS]:
        cells = [found.get((name, pose), (None, None)) for pose in poses]
        rows.append((name, [face for face, _ in cells] + [mask for _, mask in cells]))
    short = [pose.replace("_", " ") for pose in poses]
    left = "" if len(names) <= SHEET_EXPRESSIONS else f" {len(names) - SHEET_EXPRESSIONS} more are not shown."
    text = f"Left, a face of every expression in every pose; right, the masks of its landmarks.{left}"
    return _png(figures.picture_sheet(rows, short * 2), title, text, wide=True)


def group_picture(config: ReportConfig, corpus: Corpus | None) -> list[Picture]:
    """Returns Fig. 1(b): the expressions in groups, with their stability."""
    from fer_tf.evaluation import clusters

    title = f"Fig. 1(b). The expressions in {config.groups} groups"
    if corpus is None or corpus.faces is not None:
        return [Picture(title, NEEDS_DATA if corpus is None else NO_LANDMARKS)]
    present = sum(count > 0 for count in corpus.statistics["images_per_expression"].values())
    if present <= config.groups:
        return [Picture(title, f"needs more than {config.groups} expressions; the data has {present} (see --groups)")]
    faces = clusters.measure_faces(config.data, config.max_faces)
    found = clusters.group_expressions(faces, config.groups, seed=config.seed)
    lines = tuple(f"Group {n}: {names} ({what})" for n, (names, what) in enumerate(clusters.describe(found), 1))
    low, high = found.stability_interval
    stable = (
        f"Over {found.samples} bootstrap samples of persons the groups agree with these by an adjusted Rand index of "
        f"{found.stability:.2f} [{low:.2f}, {high:.2f}] (1 the same, 0 chance)."
        if found.samples
        else "One person alone: the stability needs more."
    )
    text = f"k-means over seven eye features of {len(faces.features):,} faces, seed {config.seed}. {stable}"
    return [_svg(figures.expression_groups(found.plane, found.groups, found.names, ""), title, text, lines)]


def gan_pictures(runs: str) -> list[Picture]:
    """Returns Fig. 6: the newest held-out faces of each FaPE-GAN below the folder of runs."""
    title = "Fig. 6. FaPE-GAN's faces"
    folders = sorted({path.parent for path in Path(runs).glob("**/fape_gan/samples/*.png")})
    if not folders:
        return [Picture(title, "needs a FaPE-GAN: python -m trainer.task --task=er_ss --stage=fape_gan")]
    pictures = []
    for folder in folders:
        newest = sorted(folder.glob("*.png"))[-1]
        run = read_unscored(Path(runs), folder.parent.parent)
        text = (
            f"{run.name}, {newest.stem}, seed {run.seed}. Columns: source, mask of the wanted pose, generated, "
            f"real face in that pose. {_held_out(folder.parent)}{run.command}"
        )
        uri = figures.data_uri(newest.read_bytes(), "image/png")
        pictures.append(Picture(f"{title}: {run.name}", text, (), uri, "rows of source, mask, generated and real face"))
    return pictures


def _held_out(folder: Path) -> str:
    """Says how good the held-out faces of a FaPE-GAN were after its last epoch; empty when that is not known."""
    path = folder / "history.json"
    last = json.loads(path.read_text())[-1] if path.exists() else {}
    if "held_out_identity_kept" not in last:
        return ""
    return (
        f"Held-out pairs: identity kept {last['held_out_identity_kept']:.0%}, landmark error "
        f"{last['held_out_landmark_error']:.1%} of the distance between the eyes, SSIM {last['held_out_ssim']:.2f}. "
    )


def confusion_pictures(runs: Sequence[Run]) -> list[Picture]:
    """Returns Figs. 7 and 8 (without and with pre-training), and the confusion of every other task."""
    pictures = []
    for number, task in ((7, "fer2013"), (8, "jaffe")):
        for letter, pretrained in (("a", False), ("b", True)):
            how = "pre-trained" if pretrained else "from scratch"
            title = f"Fig. {number}({letter}). {tables.SET_NAMES[task]}, {how}"
            run = best([run for run in runs if run.task == task and run.pretrained == pretrained])
            start = " --init_from=RUN" if pretrained else ""
            pictures.append(_confusion(run, title) if run else Picture(title, tables.needs_set(task, start)))
    for task, name in {**tables.TASK_NAMES, "ckplus": "CK+", "kdef": "KDEF"}.items():
        run = best([run for run in runs if run.task == task])
        if run:
            pictures.append(_confusion(run, f"Confusion, {name}"))
    return pictures


def _confusion(run: Run, title: str) -> Picture:
    test = run.test
    low, high = (100 * value for value in test.get("accuracy_interval") or (np.nan, np.nan))
    figure = figures.confusion_matrix(np.array(test["confusion"]), test["expressions"], "")
    text = (
        f"{run.name}: {100 * test['accuracy']:.1f} % [{low:.1f}, {high:.1f}] of {test['faces']:,} test faces right, "
        f"seed {run.seed}. Rows add up to 100 %."
    )
    return _svg(figure, title, text)


def saliency_picture(config: ReportConfig, corpus: Corpus | None, runs: Sequence[Run]) -> list[Picture]:
    """Returns the mean saliency map of each expression and pose, for the best run that was trained on this data."""
    from fer_tf.evaluation.faces import mean_saliency

    title = "Where Fa-Net looks"
    if not config.saliency_faces:
        return []
    run = best(
        [run for run in runs if corpus and run.metrics.get("data_fingerprint") == corpus.fingerprint_of(run.flags)]
    )
    if corpus is None or run is None:
        return [Picture(title, "needs a run on this data: python -m trainer.task --task=er_ss")]
    poses = corpus.summary["poses"]
    rows, columns = mean_saliency(run.folder, run.task, config.data, poses, config.saliency_faces, faces=corpus.faces)
    if len(columns) == 1 and len(rows) <= ROW_EXPRESSIONS:
        rows, columns = [("", [pictures[0] for _, pictures in rows])], [name for name, _ in rows]
    text = (
        f"LayerCAM for the true expression, mean over up to {config.saliency_faces} test faces of each expression and "
        f"pose, on their mean face; run {run.name}, seed {run.seed}. Bright is where the network's answer comes from."
    )
    return [_png(figures.picture_sheet(rows, columns), title, text)]


def _svg(figure: Any, title: str, text: str, lines: tuple[str, ...] = ()) -> Picture:
    return Picture(title, text, lines, figures.data_uri(figures.to_svg(figure), "image/svg+xml"), f"{title}. {text}")


def _png(figure: Any, title: str, text: str, wide: bool = False) -> Picture:
    uri = figures.data_uri(figures.to_png(figure, 200), "image/png")
    return Picture(title, text, (), uri, f"{title}. {text}", wide)


def _write(
    config: ReportConfig,
    made: Sequence[Table],
    pictures: dict[str, list[Picture]],
    corpus: Corpus | None,
    runs: Sequence[Run],
    clock: Clock,
) -> None:
    import jinja2

    folder = Path(config.output, TABLES_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    for table in made:
        (folder / f"{table.key}.csv").write_text(tables.to_csv(table))
        (folder / f"{table.key}.tex").write_text(tables.to_latex(table))
    (folder / "numbers.csv").write_text(tables.numbers_to_csv(made))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fer_tf.evaluation", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["flags"] = _unbroken_flags
    page = environment.get_template("report.html.j2").render(
        tables={table.key: table for table in made},
        pictures=pictures,
        corpus=corpus,
        runs=runs,
        config=config,
        command=shlex.join(["python", "-m", "fer_tf.evaluation.report", *_flags(config)]),
    )
    files.write_text(files.join(config.output, PAGE_FILE), page)
    clock.lap("page")
    logging.info("report: %s", clock.seconds)


def _flags(config: ReportConfig) -> list[str]:
    """The flags that make this report again."""
    always = ("runs", "data", "output")
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return [f"--{name}={value}" for name, value in values.items() if name in always or value != defaults[name]]


def _unbroken_flags(text: str) -> Any:
    """HTML of a text whose flags are not broken at their hyphens."""
    import markupsafe

    flag = markupsafe.Markup('<span class="flag">{}</span>')
    words = (
        flag.format(word) if word.startswith("-") and word != "-" else markupsafe.escape(word)
        for word in text.split(" ")
    )
    return markupsafe.Markup(" ").join(words)


if __name__ == "__main__":
    sys.exit(run_command(main))
