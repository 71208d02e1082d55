"""What `auto` takes a processor for, and what it chooses for which devices.

The devices are faked: what is tested is the choice, on machines with no GPU, one, and several.
"""

from __future__ import annotations

import dataclasses
import shutil
import types

import pytest
import tensorflow as tf

from fer_tf import files
from fer_tf.config import of, replace, to_dict
from fer_tf.data import draws
from fer_tf.data.folder import DataFolder
from fer_tf.errors import InputError
from trainer import runtime
from trainer.config import RunOptions, TaskConfig
from trainer.runtime import cpu_prefers_bfloat16


@pytest.mark.parametrize(
    ("vendor", "flags", "prefers"),
    [
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16 amx_tile", True),
        # A virtual machine that hides AMX: its bfloat16 is slower than its float32.
        ("GenuineIntel", "avx512f avx512_bf16", False),
        ("AuthenticAMD", "avx2", False),
    ],
)
def test_bfloat16_is_preferred_where_it_is_faster(tmp_path, vendor, flags, prefers):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n")
    assert cpu_prefers_bfloat16(str(tmp_path / "cpuinfo")) is prefers


def test_an_unknown_processor_gets_float32(tmp_path):
    assert not cpu_prefers_bfloat16(str(tmp_path / "missing"))


@pytest.fixture
def devices(monkeypatch):
    """Sets the compute capabilities of the GPUs that TensorFlow lists; returns what was mirrored over."""

    def gpus(*capabilities):
        names = [f"/device:GPU:{number}" for number in range(len(capabilities))]
        physical = [types.SimpleNamespace(name=name.replace("/device", "/physical_device")) for name in names]
        details = {device.name: capability for device, capability in zip(physical, capabilities, strict=True)}
        listed = {"GPU": physical, "CPU": [types.SimpleNamespace(name="/physical_device:CPU:0")]}
        logical = {"GPU": names, "CPU": ["/device:CPU:0"]}
        monkeypatch.setattr(tf.config, "list_physical_devices", listed.__getitem__)
        monkeypatch.setattr(
            tf.config, "list_logical_devices", lambda kind: [types.SimpleNamespace(name=name) for name in logical[kind]]
        )
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda device: {"compute_capability": details[device.name]} if details[device.name] else {},
        )

    mirrored = []
    monkeypatch.setattr(runtime, "_mirrored", lambda names: mirrored.append(names) or "mirrored")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    gpus.mirrored = mirrored
    return gpus


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [
        ([(9, 0)], "mixed_bfloat16"),
        ([(8, 0)], "mixed_bfloat16"),
        # Tensor cores of Volta and Turing know float16 alone, and Pascal has none.
        ([(7, 5)], "mixed_float16"),
        ([(7, 0)], "mixed_float16"),
        ([(6, 1)], "float32"),
        # No compute capability: a GPU of another maker.
        ([None], "float32"),
        # The least of them decides, wherever it stands.
        ([(9, 0), (7, 5)], "mixed_float16"),
        ([(6, 1), (9, 0)], "float32"),
    ],
)
def test_auto_takes_the_number_format_that_every_gpu_is_fast_at(devices, capabilities, chosen):
    devices(*capabilities)
    assert runtime.precision(RunOptions()) == chosen
    assert runtime.precision(RunOptions(deterministic=True)) == "float32"
    assert runtime.precision(RunOptions(precision="mixed_bfloat16")) == "mixed_bfloat16"


def test_auto_mirrors_over_several_gpus_and_over_nothing_else(devices):
    for gpus in ([], [(8, 0)]):
        devices(*gpus)
        assert runtime.strategy(RunOptions()) is tf.distribute.get_strategy()
    devices((8, 0), (8, 0))
    assert runtime.strategy(RunOptions()) == "mirrored"
    assert devices.mirrored == [("/device:GPU:0", "/device:GPU:1")]
    assert runtime.strategy(RunOptions(strategy="one_device")) is tf.distribute.get_strategy()


@pytest.mark.parametrize(("images", "replicas", "shared"), [(128, 1, 128), (128, 2, 128), (128, 3, 126), (16, 3, 15)])
def test_replicas_get_equally_many_images(images, replicas, shared):
    assert runtime.even(images, types.SimpleNamespace(num_replicas_in_sync=replicas)) == shared


def test_fewer_images_than_replicas_are_refused():
    with pytest.raises(InputError, match=r"each of the 4 replicas. Received: 3"):
        runtime.even(3, types.SimpleNamespace(num_replicas_in_sync=4))


def test_a_run_of_a_draw_is_scored_with_the_flags_that_its_config_names(toy_data, tmp_path):
    """Which name the draw's folder as the data."""
    table = of(TaskConfig, data=toy_data, run_dir=str(tmp_path / "run"), split_seed=3)
    drawn = runtime.drawn(table)
    assert drawn.data != toy_data and runtime.drawn(drawn) == drawn
    with pytest.raises(InputError, match="is a draw of"):
        runtime.drawn(dataclasses.replace(drawn, split_seed=4))


def test_a_run_is_scored_on_its_own_data_whatever_lies_at_the_default(toy_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "faces").mkdir(parents=True)

    def scored(own, **flags):
        run = of(TaskConfig, stage="evaluate", run_dir="run", **flags)
        run.folder.write_config({"flags": {**to_dict(run), "data": own}})
        return runtime.as_begun(run).data

    own = shutil.copytree(toy_data, tmp_path / "own")
    assert scored(str(own)) == str(own)
    # Of several sets the default can be none.
    assert scored("jaffe=a,er_ss=b", task="mixed") == "jaffe=a,er_ss=b"
    # What is given is meant, and data that has moved may be at the default now.
    assert scored(str(own), data="other") == "other"
    assert scored(str(tmp_path / "gone")) == "data/faces"
    draw = draws.draw(DataFolder(str(own)), str(tmp_path / "draw"), 1).path
    assert scored(draw) == draw
    shutil.move(own, tmp_path / "moved")
    assert scored(draw) == "data/faces"


def test_a_flag_that_was_not_there_yet_was_at_its_default(tmp_path):
    run = of(TaskConfig, run_dir=str(tmp_path / "run"))
    flags = {name: value for name, value in to_dict(run).items() if name not in ("epoch_faces", "gan_augment")}
    run.folder.write_config({"flags": flags})
    run.folder.fa_net.finish("")
    files.write_text(files.join(run.folder.fa_net.checkpoints, "checkpoint"), "")
    assert runtime.refuse_other_flags(run)
    with pytest.raises(InputError, match=r"`epoch_faces` was 0 when this run began\. Received: 40"):
        runtime.refuse_other_flags(replace(run, epoch_faces=40))
