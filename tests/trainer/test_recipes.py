"""The recipes are what the paper and this project's documents say."""

from __future__ import annotations

import pytest

from trainer.config import TaskConfig
from trainer.recipes import BEST, PAPER, recipe_of


@pytest.mark.parametrize(("task", "rate", "batch"), [("er_ss", 0.01, 128), ("fer2013", 2e-3, 64), ("jaffe", 5e-4, 32)])
def test_the_papers_learning_rate_and_batch_by_data_set(task, rate, batch):
    recipe = recipe_of(TaskConfig(task=task, recipe="paper"))
    assert (recipe.learning_rate, recipe.batch_size, recipe.epochs) == (rate, batch, 100)
    optimizer = recipe.build_optimizer(10)
    assert optimizer.momentum == 0.9 and not optimizer.nesterov and not optimizer.use_ema


def test_the_papers_rate_falls_by_0457_every_ten_epochs():
    rate = PAPER["f2ed"].build_schedule(50)
    assert float(rate(499)) == pytest.approx(0.01)
    assert float(rate(500)) == pytest.approx(0.01 * 0.457)
    assert float(rate(4999)) == pytest.approx(0.01 * 0.457**9, rel=1e-4)


def test_fewer_longer_epochs_fall_at_the_same_steps():
    short = recipe_of(TaskConfig(task="er_up", recipe="paper", epochs=20)).build_schedule(60)
    long = recipe_of(TaskConfig(task="er_up", recipe="paper", epochs=15, decay_epochs=7.5)).build_schedule(80)
    assert all(float(short(step)) == float(long(step)) for step in range(0, 1200, 30))
    assert float(short(599)) == pytest.approx(0.01) and float(short(600)) == pytest.approx(0.01 * 0.457)


def test_the_best_rate_warms_up_and_ends_at_zero():
    recipe = BEST["f2ed"]
    rate = recipe.build_schedule(100)
    total = 100 * recipe.epochs
    assert float(rate(0)) < 0.02 * recipe.learning_rate
    assert float(rate(round(100 * recipe.warmup_epochs))) == pytest.approx(recipe.learning_rate, rel=1e-3)
    assert float(rate(total)) == pytest.approx(0.0, abs=1e-8)


def test_a_short_run_averages_over_fewer_steps():
    recipe = BEST["f2ed"]
    momenta = [recipe.build_optimizer(steps).ema_momentum for steps in (1, 10, 1000)]
    assert momenta[0] < momenta[1] < momenta[2] == recipe.ema


def test_phases_cover_the_epochs_once_and_an_image_size_by_flag_makes_one_phase():
    recipe = BEST["fer2013"]
    first, last = recipe.phases()
    assert first[0] == 0 and first[1] == last[0] and last[1] == recipe.epochs
    assert first[2] == recipe.early_size < last[2] == recipe.image_size
    assert recipe_of(TaskConfig(task="fer2013", image_size=40)).phases() == ((0, recipe.epochs, 40),)


def test_flags_override_the_recipe():
    recipe = recipe_of(TaskConfig(epochs=3, batch_size=8, learning_rate=0.5))
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (3, 8, 0.5)
