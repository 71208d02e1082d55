"""`python -m fer_tf.reports.look`: where a run's Fa-Net looks, for single faces or by expression and pose."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fer_tf.config import EXIT_OK, parse, run_command
from fer_tf.errors import InputError, check_least, not_one_of
from fer_tf.models import fa_net
from fer_tf.models.fa_net import FaNetSpec
from fer_tf.reports import figures
from fer_tf.reports.corpus import read_corpus
from fer_tf.reports.paper_tables import SET_NAMES
from fer_tf.resources import PUBLISHED
from fer_tf.run_folder import RunFolder, network_folder

ACTIVATION = "activation_maximization"


@dataclass(frozen=True)
class LookConfig:
    """Which maps to draw.

    Attributes:
      images: pictures whose largest face to explain; without any, the data's test faces are averaged by expression and
        pose.
      given: whether each picture is a face that was cut out already; where no face is found, it is taken as one too.
      run_dir: folder of a finished run, or pretrained.
      method: how the maps are made; all makes the four maps, activation_maximization an input for each expression.
      data: the run's data folder or public set, for the averages.
      expression: the one to explain or to show; empty explains the predicted one, or shows all.
      pose: the one to average; empty for all.
      faces: test faces to average for each expression and pose.
      output: folder of the pictures; the run's own `saliency/` when empty, the current one for pretrained.
      seed: of SmoothGrad's noise and of activation maximization's start.
    """

    images: tuple[str, ...] = ()
    given: bool = False
    run_dir: str = "runs/er_ss"
    method: Literal["all", "smoothgrad", "gradcam++", "scorecam", "layercam", "activation_maximization"] = "all"
    data: str = "data/faces"
    expression: str = ""
    pose: str = ""
    faces: int = 16
    output: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, faces=1)

    @property
    def methods(self) -> tuple[str, ...]:
        """The maps that are asked for."""
        from fer_tf.evaluation import saliency

        return saliency.METHODS if self.method == "all" else (self.method,)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the pictures, to files and to TensorBoard, and returns the exit code."""
    config, _ = parse(
        LookConfig,
        argv,
        prog="python -m fer_tf.reports.look",
        description="Draws where a run's Fa-Net looks, with tf-keras-vis; pictures to files and to TensorBoard.",
        positional="images",
    )
    pictures = draw(config)
    published = config.run_dir in PUBLISHED
    folder = Path(config.output or ("." if published else RunFolder(config.run_dir).saliency))
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures.items():
        (folder / f"{name}.png").write_bytes(figures.to_png(figure, 200))
        print(folder / f"{name}.png")
    if not published:  # Nothing is written to what is installed.
        _to_tensorboard(config, pictures)
    return EXIT_OK


def draw(config: LookConfig) -> dict[str, figures.Figure]:
    """Returns the figures that a config asks for, by file name."""
    if config.method == ACTIVATION:
        return {ACTIVATION: _strongest_inputs(config)}
    if config.images:
        return {"faces": _faces(config)}
    return {f"mean_{method.replace('+', 'p')}": _means(config, method) for method in config.methods}


def _strongest_inputs(config: LookConfig) -> figures.Figure:
    from fer_tf.evaluation import saliency

    model, spec = fa_net.load(network_folder(config.run_dir))
    classes = [_class_of(config, spec)] if config.expression else list(range(spec.num_classes))
    found = saliency.activation_maximization(model, classes, seed=config.seed)
    pictures = list((found * 255).round().astype(np.uint8))
    names = [spec.expressions[index] for index in classes]
    chunks = [slice(start, start + 4) for start in range(0, len(names), 4)]
    return figures.picture_sheet([(", ".join(names[chunk]), pictures[chunk]) for chunk in chunks])


def _faces(config: LookConfig) -> figures.Figure:
    """One row an image: the face as the network sees it and its overlays."""
    from fer_tf.data.preprocess import preprocess
    from fer_tf.evaluation import saliency

    model, spec = fa_net.load(network_folder(config.run_dir))
    faces = np.concatenate(
        [preprocess(crop[None], spec.image_size, spec.channels, share) for crop, share in crops_of(config, spec)]
    )
    classes = [_class_of(config, spec)] * len(faces) if config.expression else saliency.predicted_classes(model, faces)
    maps = [saliency.saliency_maps(model, faces, classes, method, seed=config.seed) for method in config.methods]
    rows = []
    for index, (path, face) in enumerate(zip(config.images, faces, strict=True)):
        overlays = [saliency.overlay(face, heat[index]) for heat in maps]
        label = f"{Path(path).stem[:18]}: {spec.expressions[classes[index]]}"
        rows.append((label, [(face * 255).astype(np.uint8), *overlays]))
    return figures.picture_sheet(rows, ["face", *config.methods])


def _means(config: LookConfig, method: str) -> figures.Figure:
    from fer_tf.reports.sheets import mean_saliency

    task = RunFolder(config.run_dir).read_flags().get("task")
    if not task:
        raise InputError(
            f"averages need the config.json of a run, and `run_dir` {config.run_dir!r} has none; name "
            "another, or give face images."
        )
    corpus = read_corpus(config.data, (task,) if task in SET_NAMES else ())
    if corpus is None:
        raise InputError(f"averages need the run's data: `data` {config.data!r} is none; give --data, or face images.")
    known_poses, known_expressions = corpus.summary["poses"], corpus.summary["expressions"]
    if config.pose and config.pose not in known_poses:
        raise not_one_of("pose", config.pose, known_poses)
    if config.expression and config.expression not in known_expressions:
        raise not_one_of("expression", config.expression, known_expressions)
    poses = [config.pose] if config.pose else known_poses
    expressions = [config.expression] if config.expression else []
    rows, columns = mean_saliency(config.run_dir, task, corpus.data, poses, config.faces, method, expressions)
    return figures.picture_sheet(rows, columns, f"{method}, mean of up to {config.faces} test faces")


def _class_of(config: LookConfig, spec: FaNetSpec) -> int:
    if config.expression not in spec.expressions:
        raise not_one_of("expression", config.expression, spec.expressions)
    return spec.expressions.index(config.expression)


def crops_of(config: LookConfig, spec: FaNetSpec) -> list[tuple[np.ndarray, float]]:
    """Returns each picture's largest face, uint8 (H, W, 3), and the share of its side that the network sees of it."""
    pictures = [_read(path) for path in config.images]
    as_given, aligned = spec.window(aligned=False), spec.window(aligned=True)
    if config.given:
        return [(picture, as_given) for picture in pictures]
    from fer_tf.faces.extractor import ExtractorOptions
    from fer_tf.recognition.alignment import extractor_for

    with contextlib.closing(extractor_for(spec.landmark_model, ExtractorOptions())) as extractor:
        found = [extractor.faces_in_image(picture) for picture in pictures]
    return [
        (faces[0].image, aligned) if faces else (picture, as_given)
        for faces, picture in zip(found, pictures, strict=True)
    ]


def _read(path: str) -> np.ndarray:
    """An image file as RGB, uint8 (H, W, 3)."""
    from fer_tf.faces import media

    file = media.open(path)
    return file.frame().rgb if file.still else next(file.frames()).frame().rgb


def _to_tensorboard(config: LookConfig, pictures: dict[str, figures.Figure]) -> None:
    import tensorflow as tf

    writer = tf.summary.create_file_writer(RunFolder(config.run_dir).saliency_log)
    with writer.as_default(0):
        for name, figure in pictures.items():
            tf.summary.image(f"saliency/{name}", figures.to_rgb(figure)[None])
    writer.close()


if __name__ == "__main__":
    sys.exit(run_command(main))
