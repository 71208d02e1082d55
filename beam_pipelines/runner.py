"""Which engine runs a pipeline, and what `--runner=DirectRunner` means here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions

DIRECT_RUNNER = "DirectRunner"


def pipeline(runner: str, flags: Sequence[str]) -> beam.Pipeline:
    """Returns a pipeline on a runner, with the runner's own flags.

    Since Beam 2.68 the name DirectRunner hands pipelines to Prism where that binary is, or can be downloaded, and to
    the Python runner elsewhere; the two report errors and limits differently. Here DirectRunner always is the Python
    runner. `--runner=PrismRunner` asks for Prism.

    Args:
      runner: a name that Beam knows, such as DirectRunner, FlinkRunner or DataflowRunner.
      flags: Beam's flags, such as `--direct_num_workers=2 --direct_running_mode=multi_processing`.
    """
    if runner == DIRECT_RUNNER:
        options = PipelineOptions(list(flags))
        worker = options.view_as(WorkerOptions)
        # Worker processes tell every connection that they open; what stops them is raised in the driver anyway.
        worker.default_sdk_harness_log_level = worker.default_sdk_harness_log_level or "ERROR"
        return beam.Pipeline(runner=_python_runner(options), options=options)
    return beam.Pipeline(options=PipelineOptions([*flags, f"--runner={runner}"]))


def _python_runner(options: PipelineOptions) -> Any:
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    # Worker processes read their options from here.
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    info = fn_runner.ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    return fn_runner.FnApiRunner(provision_info=info)
