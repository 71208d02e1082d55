"""Dataflow as far as it goes without an account: both pipelines translate, offline, onto the worker image."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from fer_tf.errors import InputError

ROOT = Path(__file__).parent.parent.parent
IMAGE = "europe-west1-docker.pkg.dev/p/fer-tf/worker:7"


def test_the_worker_image_has_the_beam_that_submits() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    pinned = re.search(r"^apache-beam==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned and f"ARG BEAM={pinned[1]}\n" in dockerfile
    assert "RUN --network=none python -m cluster.check_worker" in dockerfile


def test_the_worker_check_finds_the_faces_of_a_sample(samples: Path, capsys: pytest.CaptureFixture) -> None:
    from cluster import check_worker

    assert check_worker.main([str(samples / "take_1/P001/happy/front.mp4")]) == 0
    assert capsys.readouterr().out.startswith("2 faces by mtcnn")


def test_both_pipelines_translate_onto_the_worker_image() -> None:
    from cluster import dataflow

    try:
        jobs = dataflow.translate(dataflow.DataflowConfig(image=IMAGE))
    except InputError as error:
        pytest.skip(str(error))
    assert set(jobs) == {"extract", "write"}
    for job in jobs.values():
        environments = job.proto_pipeline.components.environments.values()
        payloads = [environment.payload.decode(errors="replace") for environment in environments]
        assert payloads and all(IMAGE in payload for payload in payloads)
        # Nothing is installed on a worker when it starts.
        staged = {dependency.role_payload for environment in environments for dependency in environment.dependencies}
        names = {beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(payload).staged_name for payload in staged}
        assert names <= {"pickled_main_session", "submission_environment_dependencies.txt"}
    names = {transform.unique_name for transform in jobs["extract"].proto_pipeline.components.transforms.values()}
    assert any("Extract/Extract" in name for name in names)


@pytest.mark.parametrize("bucket", ["/data", "gs://b", "gs://"])
def test_a_bucket_that_is_none_is_refused(bucket: str) -> None:
    from cluster import dataflow

    with pytest.raises(InputError, match="`bucket` must be gs:// and the name of a bucket"):
        dataflow.DataflowConfig(bucket=bucket)
