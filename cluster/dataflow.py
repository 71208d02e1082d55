"""The build's pipelines as Dataflow would get them: `python -m cluster.dataflow --image=... --project=...`.

Translates both pipelines with DataflowRunner's own options up to the submission, without an account or a network, and
writes them as JSON to look at. Needs Beam's extra packages: pip install 'apache-beam[gcp]'.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import GoogleCloudOptions

from beam_pipelines import extract, runner, write
from beam_pipelines.chunks import Labels
from beam_pipelines.write import WritePlan
from fer_tf.config import EXIT_OK, parse, run_command
from fer_tf.data import tasks
from fer_tf.data.tasks import FaceKeys, TaskOptions
from fer_tf.errors import InputError, check_least
from fer_tf.faces.extractor import ExtractorOptions
from fer_tf.labels import POSES

# What a plan of splits is made of; nothing runs here, so any will do.
_ONE_FACE = FaceKeys(*[np.zeros(1, np.uint64)] * 4, *[np.zeros(1, np.int32)] * 2)


@dataclass(frozen=True)
class DataflowConfig:
    """Translates the build for Dataflow, without submitting it.

    Attributes:
      image: the worker image, the Dockerfile's target worker, pushed to a registry that the project reads.
      project: the Google Cloud project.
      region: where the workers run.
      bucket: a gs:// folder for clips, data folder and Dataflow's temporary files.
      machine_type: the workers' machines.
      workers: the most machines that Dataflow may take.
      output: folder for the two translated pipelines.
    """

    image: str = "europe-west1-docker.pkg.dev/my-project/fer-tf/worker:1"
    project: str = "my-project"
    region: str = "europe-west1"
    bucket: str = "gs://my-bucket"
    machine_type: str = "n2-standard-4"
    workers: int = 20
    output: str = ".cluster/dataflow"

    def __post_init__(self) -> None:
        # Of any other name Beam would quietly make a bucket of its own.
        if not re.fullmatch(r"gs://[a-z0-9][-_.a-z0-9]+[a-z0-9](/.*)?", self.bucket):
            raise InputError(f"`bucket` must be gs:// and the name of a bucket. Received: {self.bucket!r}.")
        check_least(self, workers=1)


def beam_flags(config: DataflowConfig) -> list[str]:
    """Returns the flags that the build takes on Dataflow."""
    return [
        f"--project={config.project}",
        f"--region={config.region}",
        f"--temp_location={config.bucket}/temp",
        f"--staging_location={config.bucket}/staging",
        f"--sdk_container_image={config.image}",
        "--sdk_location=container",
        f"--machine_type={config.machine_type}",
        f"--max_num_workers={config.workers}",
        # A detector of its own in every thread would multiply the memory; processes already use all cores.
        "--number_of_worker_harness_threads=1",
    ]


def transforms(config: DataflowConfig) -> dict[str, beam.PTransform]:
    """Returns the build's two pipelines: from clips to faces, and from tagged faces to shards."""
    building = f"{config.bucket}/data/faces/.building"
    labels = Labels(("happy", "sad"), POSES)
    videos = extract.Videos.parse(f"{config.bucket}/videos")
    limits = tasks.plan(_ONE_FACE, labels.expressions, labels.poses, TaskOptions())
    plan = WritePlan(building, labels, limits, 4, 4, 2, False)
    return {
        "extract": extract.ExtractFaces(building, videos, f"{config.bucket}/data/faces/.extracted", ExtractorOptions()),
        "write": write.WriteShards(plan),
    }


def translate(config: DataflowConfig) -> dict[str, Any]:
    """Returns, by name, each pipeline's job as DataflowRunner makes it before it would be sent.

    Raises:
      InputError: without Beam's packages for Google Cloud.
    """
    try:
        import google.cloud.storage  # noqa: F401
        from apache_beam.runners.dataflow.internal import apiclient  # noqa: F401
    except ImportError as error:
        raise InputError(f"Dataflow needs more packages ({error}): pip install 'apache-beam[gcp]'.") from None
    jobs = {}
    for name, transform in transforms(config).items():
        with _bucket_left_alone():
            pipeline = runner.pipeline("DataflowRunner", [*beam_flags(config), "--dry_run=True"])
            pipeline | "Chunks" >> beam.Create(range(4)) | name.title() >> transform
            # Dataflow's results alone have a job, which Beam's type does not tell.
            result: Any = pipeline.run()
            jobs[name] = result.job
    return jobs


@contextlib.contextmanager
def _bucket_left_alone() -> Iterator[None]:
    """Beam asks Cloud Storage about the bucket's settings when it checks the flags: there is no account to ask with."""
    asks = GoogleCloudOptions._warn_if_soft_delete_policy_enabled
    GoogleCloudOptions._warn_if_soft_delete_policy_enabled = lambda *_: None
    try:
        yield
    finally:
        GoogleCloudOptions._warn_if_soft_delete_policy_enabled = asks


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    from google.protobuf import json_format

    config, _ = parse(DataflowConfig, argv, prog="python -m cluster.dataflow", description=__doc__)
    os.makedirs(config.output, exist_ok=True)
    for name, job in translate(config).items():
        path = os.path.join(config.output, f"{name}.json")
        with open(path, "w") as file:
            json.dump(json_format.MessageToDict(job.proto_pipeline), file, indent=2)
        print(f"{path}: {len(job.proto_pipeline.components.transforms)} transforms on {config.image}")
    data = f"--videos_root={config.bucket}/videos --output={config.bucket}/data/faces"
    print("to submit:\npython -m beam_pipelines.build --runner=DataflowRunner", data, *beam_flags(config))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
