"""What is written for the real TensorFlow Serving parses, fits together and fits the export."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from fer_tf.errors import InputError
from fer_tf.recognition.server import Connection
from serving.settings import server_credentials
from serving.tf_serving_protos import BatchingParameters, MonitoringConfig, SSLConfig, read_text
from tests.serving.conftest import serving
from tests.serving.test_lifecycle import http
from tests.serving.test_tls import make_certificate

FOLDER = Path(__file__).parent.parent.parent / "serving" / "tf_serving"
SERVICE = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["fa_net"]
FLAGS = dict(flag.removeprefix("--").split("=", 1) for flag in SERVICE["command"])


def test_the_model_config_is_the_official_message_and_names_the_mounted_folder() -> None:
    config = text_format.Parse(
        (FOLDER / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config[0]
    assert (config.name, config.model_platform) == ("fa_net", "tensorflow")
    assert config.model_version_policy.latest.num_versions == 2
    targets = {volume.split(":")[1] for volume in SERVICE["volumes"]}
    assert config.base_path in targets
    assert {FLAGS[name] for name in FLAGS if name.endswith("_file")} <= targets


def test_batching_monitoring_and_tls_files_parse_and_a_misspelt_field_is_named(tmp_path: Path) -> None:
    batching = read_text(str(FOLDER / "batching_parameters.txt"), BatchingParameters, "batching_parameters_file")
    assert batching.max_batch_size.value == 64 and batching.num_batch_threads.value == 2
    monitoring = read_text(str(FOLDER / "monitoring.config"), MonitoringConfig, "monitoring_config_file")
    assert monitoring.prometheus_config.enable
    assert read_text(str(FOLDER / "ssl.config.example"), SSLConfig, "ssl_config_file").client_verify
    (tmp_path / "wrong").write_text("max_batch_size { value: 3 }\nbatch_timout_micros { value: 3 }")
    with pytest.raises(InputError, match=r"2:1.*batch_timout_micros"):
        read_text(str(tmp_path / "wrong"), BatchingParameters, "batching_parameters_file")


def test_compose_pins_the_image_stays_on_loopback_and_mounts_what_exists() -> None:
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", SERVICE["image"])
    assert all(port.startswith("127.0.0.1:") for port in SERVICE["ports"])
    for volume in SERVICE["volumes"]:
        source, _, mode = volume.split(":")
        assert mode == "ro"
        assert source == "../../models/fa_net" or (FOLDER / source).is_file()


def test_the_embedded_server_runs_with_the_same_files(exported: str, faces: list[bytes], tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "fa_net")
    config = (FOLDER / "models.config").read_text().replace("/models/fa_net", str(tmp_path / "fa_net"))
    (tmp_path / "models.config").write_text(config)
    flags = {
        "model_config_file": str(tmp_path / "models.config"),
        "batching_parameters_file": str(FOLDER / "batching_parameters.txt"),
        "monitoring_config_file": str(FOLDER / "monitoring.config"),
        "grpc_channel_arguments": FLAGS["grpc_channel_arguments"],
    }
    with serving(**flags) as server, Connection(server.address) as connection:
        assert len(connection.classify_encoded(faces[:3])) == 3
        assert http(server.http, "/monitoring/prometheus/metrics")[0] == 200


def test_the_readmes_tls_recipe_makes_a_file_that_the_server_takes(tmp_path: Path) -> None:
    authority = make_certificate(tmp_path, "ca")
    make_certificate(tmp_path, "server", authority)
    text = (FOLDER / "README.md").read_text()
    recipe = re.search(r"```\n(for pair in .*?)```", text, re.DOTALL).group(1)
    subprocess.run(["bash", "-ec", recipe], cwd=tmp_path, check=True)
    parsed = read_text(str(tmp_path / "ssl.config"), SSLConfig, "ssl_config_file")
    assert parsed.server_cert == (tmp_path / "server.crt").read_text()
    assert parsed.custom_ca == (tmp_path / "ca.crt").read_text() and parsed.client_verify
    assert server_credentials(str(tmp_path / "ssl.config")) is not None
    assert os.stat(tmp_path / "ssl.config").st_mode & 0o077 == 0


def test_the_export_holds_what_the_real_server_looks_for(exported: str) -> None:
    raw = (Path(exported) / "1" / "saved_model.pb").read_bytes()
    (graph,) = saved_model_pb2.SavedModel.FromString(raw).meta_graphs
    assert list(graph.meta_info_def.tags) == ["serve"]
    # Attributes at their defaults are left out, so that a somewhat older server can read the graph.
    assert graph.meta_info_def.stripped_default_attrs
    methods = {name: signature.method_name for name, signature in graph.signature_def.items()}
    assert methods["serving_default"] == methods["predict_images"] == methods["embed"] == "tensorflow/serving/predict"
    # The real server's Classify reads `inputs` and gives `classes` and `scores`.
    classify = graph.signature_def["classify"]
    assert methods["classify"] == "tensorflow/serving/classify"
    assert set(classify.inputs) == {"inputs"} and set(classify.outputs) == {"classes", "scores"}
    # With batching it splits every output by rows: the first dimension must be the batch.
    for name in ("serving_default", "predict_images", "embed", "classify"):
        signature = graph.signature_def[name]
        for tensor in [*signature.inputs.values(), *signature.outputs.values()]:
            assert tensor.tensor_shape.dim[0].size == -1


def test_warm_up_requests_name_signatures_and_inputs_that_exist(exported: str) -> None:
    import tensorflow as tf

    version = Path(exported) / "1"
    (graph,) = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes()).meta_graphs
    path = str(version / "assets.extra" / "tf_serving_warmup_requests")
    logs = [
        prediction_log_pb2.PredictionLog.FromString(raw) for raw in tf.data.TFRecordDataset(path).as_numpy_iterator()
    ]
    assert 1 <= len(logs) <= 1000
    for log in logs:
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        assert request.model_spec.name == "fa_net"
        signature = graph.signature_def[request.model_spec.signature_name]
        if kind == "predict_log":
            assert set(request.inputs) == set(signature.inputs)
