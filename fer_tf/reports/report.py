"""`python -m fer_tf.reports.report`: the paper's figures and tables from a user's own data and runs, on one page."""

from __future__ import annotations

import dataclasses
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fer_tf import files
from fer_tf.config import EXIT_OK, parse, run_command
from fer_tf.errors import InputError, check_least
from fer_tf.evaluation.run_scores import best
from fer_tf.labels import TASK_NAMES
from fer_tf.reports import competitor_tables, figures, page, paper_tables, sheets, table_5, tables, wording
from fer_tf.reports.corpus import Corpus, read_corpus
from fer_tf.reports.page import Picture
from fer_tf.reports.section import NEEDS_DATA, NO_LANDMARKS, Section, section
from fer_tf.reports.sheets import Sheet
from fer_tf.reports.tables import MISSING, OWN, Cell, Table
from fer_tf.runs import Run, find_gans, find_runs

OF_RUNS = (table_5.table_5, competitor_tables.table_2, competitor_tables.table_3, paper_tables.table_4)
PAGE_FILE, TABLES_FOLDER = "report.html", "tables"
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
        check_least(self, groups=2, max_faces=0, saliency_faces=0, seed=0)


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
        prog="python -m fer_tf.reports.report",
        description="The paper's figures and tables from your data and runs: one HTML page, and CSV and LaTeX.",
    )
    if config.runs != ReportConfig.runs and not Path(config.runs).is_dir():
        raise InputError(f"`runs` must be a folder of run folders, or one run folder. {config.runs!r} is none.")
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
    made = [table(runs) for table in OF_RUNS]
    clock.lap("tables")
    corpus_part = corpus_section(config.data, corpus)
    clock.lap("corpus figures")
    pictures = {"groups": group_picture(config, corpus)}
    clock.lap("eye features and groups")
    pictures["gan"] = gan_pictures(config.runs)
    networks = paper_tables.of_fa_net(runs)
    pictures["confusion"] = confusion_pictures(networks)
    clock.lap("confusion and GAN figures")
    pictures["saliency"] = saliency_picture(config, corpus, networks)
    clock.lap("saliency")
    _write(config, made, corpus_part, pictures, corpus, runs)
    clock.lap("page")
    logging.info("report: %s", clock.seconds)
    return clock


def corpus_section(data: str, corpus: Corpus | None) -> Section:
    """Returns Table 1, Figs. 2, 3(b) and 4."""
    if corpus is None:
        return section(None, Sheet(NEEDS_DATA))
    stats = corpus.statistics
    if corpus.task:
        return section(stats, Sheet(NO_LANDMARKS), corpus.name)
    poses = [pose for pose, count in stats["images_per_pose"].items() if count]
    names = [name for name, count in stats["images_per_expression"].items() if count]
    faces = sheets.first_faces(data, names[: sheets.SHEET_EXPRESSIONS], poses)
    return section(stats, sheets.sheet(faces, names, poses), corpus.name)


def group_picture(config: ReportConfig, corpus: Corpus | None) -> list[Picture]:
    """Returns Fig. 1(b): the expressions in groups, with their stability."""
    from fer_tf.reports import clusters

    title = f"Fig. 1(b). The expressions in {config.groups} groups"
    if corpus is None or corpus.task:
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
    return [page.svg(figures.expression_groups(found.plane, found.groups, found.names, ""), title, text, lines)]


def gan_pictures(runs: str) -> list[Picture]:
    """Returns Fig. 6: the newest held-out faces of each FaPE-GAN below the folder of runs."""
    title = "Fig. 6. FaPE-GAN's faces"
    found = find_gans(runs)
    if not found:
        return [Picture(title, "needs a FaPE-GAN: python -m trainer.task --task=er_ss --stage=fape_gan")]
    pictures = []
    for run in found:
        newest = run.folder.gan.samples[-1]
        text = (
            f"{run.name}, {Path(newest).stem}, seed {run.seed}. Columns: source, mask of the wanted pose, generated, "
            f"real face in that pose. {_held_out(run)}{run.command}"
        )
        uri = figures.data_uri(files.read_bytes(newest), "image/png")
        alt = "rows of source, mask, generated and real face"
        pictures.append(Picture(f"{title}: {run.name}", text, (), uri, alt, pixels=True))
    return pictures


def _held_out(run: Run) -> str:
    """Says how good the held-out faces of a FaPE-GAN were after its last epoch; empty when that is not known."""
    last = (run.folder.gan.read_history() or [{}])[-1]
    if "held_out_identity_kept" not in last:
        return ""
    return (
        f"Held-out pairs: identity kept {last['held_out_identity_kept']:.0%}, landmark error "
        f"{last['held_out_landmark_error']:.1%} of the distance between the eyes, SSIM {last['held_out_ssim']:.2f}. "
    )


def confusion_pictures(runs: Sequence[Run]) -> list[Picture]:
    """Returns Figs. 7 and 8 (without and with pre-training), and the confusion of every other task and set."""
    pictures, printed = [], {"fer2013": 7, "jaffe": 8}
    trained = paper_tables.trained(runs)
    for task, number in printed.items():
        for letter, pretrained in (("a", False), ("b", True)):
            how = "pre-trained" if pretrained else "from scratch"
            title = f"Fig. {number}({letter}). {paper_tables.SET_NAMES[task]}, {how}"
            run = best([run for run in trained if run.task == task and run.pretrained == pretrained])
            start = " --init_from=RUN" if pretrained else ""
            pictures.append(_confusion(run, title) if run else Picture(title, paper_tables.needs_set(task, start)))
    for task, name in {**TASK_NAMES, **paper_tables.SET_NAMES}.items():
        run = best([run for run in runs if run.task == task])
        if run and task not in printed:
            pictures.append(_confusion(run, f"Confusion, {name}"))
    return pictures


def _confusion(run: Run, title: str) -> Picture:
    test = run.test
    low, high = (100 * end for end in test.get("accuracy_interval") or (np.nan, np.nan))
    interval = wording.brackets(low, high, test["interval_over"])
    figure = figures.confusion_matrix(np.array(test["confusion"]), test["expressions"], "")
    text = (
        f"{run.name}: {100 * test['accuracy']:.1f} % {interval} of {test['faces']:,} test faces right, "
        f"seed {run.seed}. Rows add up to 100 %."
    )
    return page.svg(figure, title, text)


def saliency_picture(config: ReportConfig, corpus: Corpus | None, runs: Sequence[Run]) -> list[Picture]:
    """Returns the mean saliency map of each expression and pose, for the best run that was trained on this data."""
    title = "Where Fa-Net looks"
    if not config.saliency_faces:
        return []
    run = best([run for run in runs if corpus and run.fingerprint == corpus.fingerprint_of(run.flags)])
    if corpus is None or run is None:
        return [Picture(title, "needs a run on this data: python -m trainer.task --task=er_ss")]
    poses = corpus.summary["poses"]
    rows, columns = sheets.mean_saliency(run.folder.path, run.task, corpus.data, poses, config.saliency_faces)
    if len(columns) == 1 and len(rows) <= ROW_EXPRESSIONS:
        rows, columns = [("", [pictures[0] for _, pictures in rows])], [name for name, _ in rows]
    text = (
        f"LayerCAM for the true expression, mean over up to {config.saliency_faces} test faces of each expression and "
        f"pose, on their mean face; run {run.name}, seed {run.seed}. Bright is where the network's answer comes from."
    )
    return [page.png(figures.picture_sheet(rows, columns), title, text)]


def run_table(runs: Sequence[Run]) -> Table:
    """Returns every evaluated run with its score and command."""
    columns = ("run", "test accuracy, %", "faces", "seed", "data", "command")
    rows = []
    for run in runs:
        test, over = run.test, run.test.get("interval_over", "faces")
        score = Cell("no test face", OWN)
        if test.get("faces"):
            low, high = (100 * end for end in test.get("accuracy_interval") or (np.nan, np.nan))
            score = Cell(wording.percent(test["accuracy"]), OWN, wording.brackets(low, high, over))
        data = (run.fingerprint or "unknown")[:12]
        texts = (f"{test.get('faces') or 0:,}", str(run.seed), data, run.command)
        rows.append((Cell(run.name), score, *(Cell(text) for text in texts)))
    if not runs:
        rows = [(Cell("needs a run: python -m trainer.task --task=er_ss", MISSING), *[Cell("")] * 5)]
    return Table("all_runs", "Every evaluated run", columns, tuple(rows))


def _write(
    config: ReportConfig,
    made: Sequence[Table],
    corpus_part: Section,
    pictures: dict[str, list[Picture]],
    corpus: Corpus | None,
    runs: Sequence[Run],
) -> None:
    folder = Path(config.output, TABLES_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    for table in (corpus_part.table, *made):
        (folder / f"{table.key}.csv").write_text(tables.to_csv(table))
        (folder / f"{table.key}.tex").write_text(tables.to_latex(table))
    (folder / "numbers.csv").write_text(tables.numbers_to_csv([corpus_part.table, *made]))
    text = page.render(
        "report.html",
        tables=made,
        section=corpus_part,
        pictures=pictures,
        corpus=corpus,
        runs=len(runs),
        run_table=run_table(runs),
        config=config,
        command=shlex.join(["python", "-m", "fer_tf.reports.report", *_flags(config)]),
    )
    files.write_text(files.join(config.output, PAGE_FILE), text)


def _flags(config: ReportConfig) -> list[str]:
    """The flags that make this report again."""
    always = ("runs", "data", "output")
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return [f"--{name}={value}" for name, value in values.items() if name in always or value != defaults[name]]


if __name__ == "__main__":
    sys.exit(run_command(main))
