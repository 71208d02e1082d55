"""The recipes are what the paper and this project's documents say."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from fer_tf.data import inputs
from fer_tf.data.augment import Augmentation
from fer_tf.models.fa_net import FaNetSpec
from tests.trainer.conftest import read
from trainer.config import FaNetOptions
from trainer.recipes import BEST, PAPER, UNCHANGED, recipe_of
from trainer.shown import training_batches
from trainer.task import main


@pytest.mark.parametrize(("task", "rate", "batch"), [("er_ss", 0.01, 128), ("fer2013", 2e-3, 64), ("jaffe", 5e-4, 32)])
def test_the_papers_learning_rate_and_batch_by_data_set(task, rate, batch):
    recipe = recipe_of(task, FaNetOptions(recipe="paper"))
    assert (recipe.learning_rate, recipe.batch_size, recipe.epochs) == (rate, batch, 100)
    optimizer = recipe.build_optimizer(10)
    assert optimizer.momentum == 0.9 and not optimizer.nesterov and not optimizer.use_ema


def test_the_papers_rate_falls_by_0457_every_ten_epochs():
    rate = PAPER["f2ed"].build_schedule(50)
    assert float(rate(499)) == pytest.approx(0.01)
    assert float(rate(500)) == pytest.approx(0.01 * 0.457)
    assert float(rate(4999)) == pytest.approx(0.01 * 0.457**9, rel=1e-4)


def test_fewer_longer_epochs_fall_at_the_same_steps():
    short = recipe_of("er_up", FaNetOptions(recipe="paper", epochs=20)).build_schedule(60)
    long = recipe_of("er_up", FaNetOptions(recipe="paper", epochs=15, decay_epochs=7.5)).build_schedule(80)
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


def test_phases_cover_the_epochs_once_and_an_image_size_by_flag_leaves_out_the_small_one():
    recipe = BEST["fer2013"]
    small, full, mild = recipe.phases()
    assert small.first == 0 and small.end == full.first and full.end == mild.first and mild.end == recipe.epochs
    assert small.image_size == recipe.early_size < full.image_size == mild.image_size == recipe.image_size
    assert small.augmentation == full.augmentation == recipe.augmentation
    assert recipe.augmentation.mixup and recipe.augmentation.erase
    assert not mild.augmentation.mixup and not mild.augmentation.erase and mild.augmentation.flip
    assert mild.augmentation.enlarge == recipe.augmentation.enlarge > 1
    full, mild = recipe_of("fer2013", FaNetOptions(image_size=40)).phases()
    assert (full.first, full.image_size, mild.image_size) == (0, 40, 40)
    (only,) = PAPER["f2ed"].phases()
    assert (only.first, only.end, only.augmentation) == (0, 100, UNCHANGED)


@pytest.mark.parametrize("task", ["fer2013", "jaffe", "ckplus", "kdef"])
def test_the_papers_recipe_takes_random_windows_and_mirrors_on_the_public_sets_alone(task):
    recipe = recipe_of(task, FaNetOptions(recipe="paper"))
    assert recipe.augmentation == Augmentation(flip=True, shift=1 / 18) and recipe.crop == 128 / 144
    # A window moved by the largest shift still lies in the face.
    assert recipe.crop / 2 + recipe.augmentation.shift <= 0.5 + 1e-9
    assert recipe.standardize and recipe.kernel_variance == (0.05, 1 / 3) and recipe.weight_decay == 1e-3
    for ours in ("er_ss", "er_ue", "er_up", "er_zid"):
        unchanged = recipe_of(ours, FaNetOptions(recipe="paper"))
        assert unchanged.augmentation == UNCHANGED and unchanged.crop == 1.0
        assert not unchanged.standardize and unchanged.kernel_variance == (2.0, 2.0) and not unchanged.weight_decay


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 110])
def test_the_phases_of_any_length_leave_no_epoch_out(epochs):
    recipe = dataclasses.replace(BEST["fer2013"], epochs=epochs, early_share=0.8, mild_share=0.5)
    seen = [epoch for phase in recipe.phases() for epoch in range(phase.first, phase.end)]
    assert seen == list(range(epochs))


def test_flags_override_the_recipe():
    recipe = recipe_of("er_ss", FaNetOptions(epochs=3, batch_size=8, learning_rate=0.5))
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (3, 8, 0.5)


def test_the_plain_remedies_change_what_the_papers_recipe_sees():
    plain = recipe_of("er_up", FaNetOptions(recipe="paper")).augmentation
    assert not plain.flip and not plain.mixup
    remedied = recipe_of("er_up", FaNetOptions(recipe="paper", mirror=True, mixup=0.2)).augmentation
    assert remedied == dataclasses.replace(plain, flip=True, mixup=0.2)


def test_an_epoch_of_some_faces_takes_their_steps(tiny, toy_data, tmp_path):
    """As the tables do it; the schedule counts the same epochs."""
    run = ["--task=er_ss", "--synthetic=false", f"--data={toy_data}", f"--run_dir={tmp_path}/run", "--recipe=paper"]
    some = ["--image_size=16", "--batch_size=16", "--epochs=3", "--epoch_faces=40", "--decay_epochs=1"]
    assert main([*run, *some]) == 0
    newest = tf.train.load_checkpoint(str(tmp_path / "run" / "fa_net" / "checkpoints"))
    # Two whole batches of 16 are in 40.
    assert newest.get_tensor("optimizer/_iterations/.ATTRIBUTES/VARIABLE_VALUE") == 3 * 2
    rates = [row["learning_rate"] for row in read(str(tmp_path / "run"), "fa_net", "history.json")["history"]]
    assert rates == pytest.approx([0.01 * 0.457**epoch for epoch in (1, 2, 3)])


def test_an_epoch_of_several_passes_shows_each_face_as_often(toy_data):
    faces = inputs.read_records(toy_data, "er_ss")
    train, spec = faces.parts["train"], FaNetSpec(faces.expressions, image_size=16)
    batches = training_batches(train, spec, 32, 0, Augmentation(), steps_per_epoch=3 * len(train) // 32)
    shown = Counter(face.tobytes() for batch, _ in batches.take(3 * len(train) // 32) for face in batch.numpy())
    assert len(train) % 32 == 0 and set(shown.values()) == {3} and len(shown) == len(train)
    # What follows is the next epoch, in another order.
    first, fourth = (next(iter(batches.skip(skipped)))[0].numpy() for skipped in (0, 3 * len(train) // 32))
    assert not np.array_equal(first, fourth)
