"""The figures show the numbers that they were given, and draw without pyplot."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from fer_tf.errors import InputError
from fer_tf.evaluation import calibration
from fer_tf.reports import figures


def texts(axes: object) -> list[str]:
    return [text.get_text().strip() for text in axes.texts]


def test_images_per_expression_draws_the_most_frequent_on_top() -> None:
    axes = figures.images_per_expression({"sad": 3, "happy": 12, "angry": 0}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["angry", "sad", "happy"]
    assert [bar.get_width() for bar in axes.patches] == [0, 3, 12]
    assert texts(axes) == ["0", "3", "12"]


def test_poses_keep_their_order_and_a_missing_subject_count_is_zero() -> None:
    figure = figures.subjects_and_images_per_pose({"front": 9, "half_left": 4}, {"front": 2})
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["half left", "front"]
    assert texts(left) == ["0", "2"]
    assert texts(right) == ["4", "9"]


def test_confusion_cells_are_shares_of_the_true_class() -> None:
    # By hand: 3 of 4 angry images right, 1 called sad; 1 of 2 sad right, 1 called angry.
    axes = figures.confusion_matrix(np.array([[3, 1], [1, 1]]), ["angry", "sad"]).axes[0]
    assert texts(axes) == ["75", "25", "50", "50"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["angry (4)", "sad (2)"]


def test_a_class_without_images_has_no_numbers() -> None:
    axes = figures.confusion_matrix(np.array([[2, 0], [0, 0]]), ["angry", "sad"]).axes[0]
    assert texts(axes) == ["100", "0"]


def test_confusion_matrix_must_fit_the_names() -> None:
    with pytest.raises(InputError, match="must be 2 x 2"):
        figures.confusion_matrix(np.zeros((3, 3)), ["angry", "sad"])


def test_a_sheet_takes_grey_and_colour_pictures_and_empty_cells() -> None:
    grey, colour = np.full((20, 20), 40, np.uint8), np.full((30, 30, 3), (200, 10, 10), np.uint8)
    figure = figures.picture_sheet([("one", [grey, colour]), ("two", [None, grey[..., None]])], ["a", "b"], cell=10)
    sheet = figure.axes[0].images[0].get_array()
    assert tuple(sheet[5, 5]) == (40, 40, 40)
    assert tuple(sheet[5, 19]) == (200, 10, 10)
    assert tuple(sheet[19, 5]) == (255, 255, 255)


def test_svg_is_the_same_twice_and_png_is_a_png() -> None:
    def draw() -> Figure:
        return figures.images_per_expression({"sad": 3, "happy": 12})

    assert figures.to_svg(draw()) == figures.to_svg(draw())
    assert figures.to_png(draw()).startswith(b"\x89PNG")
    assert figures.to_rgb(draw(), dpi=50).shape[1:] == (250, 3)


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(InputError, match="`images` is empty"):
        figures.images_per_expression({})


def test_drawing_needs_no_pyplot() -> None:
    # pyplot keeps every figure of the process alive and picks a window system.
    rows = calibration.reliability(np.array([[0.2, 0.8], [0.98, 0.02]]), np.array([1, 1]))
    figures.to_png(figures.reliability_diagram(rows))
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
