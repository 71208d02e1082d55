"""Which engine runs a pipeline, and what `--runner=DirectRunner` means here."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions

from fer_tf import files
from fer_tf.errors import InputError, ServerError
from fer_tf.filesystems import as_local

DIRECT_RUNNER = "DirectRunner"
JOB_SERVER_RUNNERS = ("FlinkRunner", "SparkRunner", "PortableRunner", "PrismRunner")


# What Beam adds to an error's text, and how its text of what stopped a worker names an error.
_STEP = re.compile(r" \[while running '[^']*'\]$", re.MULTILINE)
_TOLD = {kind.__name__: kind for kind in (InputError, ServerError)}
_TOLD_AS = re.compile(rf"^(?:[\w.]+\.)?({'|'.join(_TOLD)}): (.*)$", re.MULTILINE)


def log_plainly() -> None:
    """Sets a command's log: time and message, and of Beam's own only warnings."""
    logging.basicConfig(force=True, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    # What stops a worker is raised in the driver too; these would say it once more, each with its traceback.
    for name in ("worker", "common"):
        logging.getLogger(f"apache_beam.runners.{name}").setLevel(logging.CRITICAL)


def for_workers(path: str) -> str:
    """Returns a path that means the same to workers, which may start in another folder; none stays none."""
    return files.absolute(as_local(path)) if path else ""


def pipeline(runner: str, flags: Sequence[str]) -> beam.Pipeline:
    """Returns a pipeline on a runner, with the runner's own flags.

    Since Beam 2.68 the name DirectRunner hands pipelines to Prism where that binary is, or can be downloaded, and to
    the Python runner elsewhere; the two report errors and limits differently. Here DirectRunner always is the Python
    runner. `--runner=PrismRunner` asks for Prism.

    Args:
      runner: a name that Beam knows, such as DirectRunner, FlinkRunner or DataflowRunner.
      flags: Beam's flags, such as `--direct_num_workers=2 --direct_running_mode=multi_processing`.

    Raises:
      InputError: Beam has no such runner, or the runner lacks a flag or a package; or a flag is none of Beam's, such as
        a misspelled one, which Beam alone would pass over.
    """
    _refuse_unknown(runner, flags)
    if runner == DIRECT_RUNNER:
        options = PipelineOptions(list(flags))
        worker = options.view_as(WorkerOptions)
        # Worker processes tell every connection that they open; what stops them is raised in the driver anyway.
        worker.default_sdk_harness_log_level = worker.default_sdk_harness_log_level or "ERROR"
        return beam.Pipeline(runner=_python_runner(options), options=options)
    try:
        return beam.Pipeline(options=PipelineOptions([*flags, f"--runner={runner}"]))
    except (ValueError, ImportError, AttributeError) as error:
        raise InputError(f"`runner` {runner!r} cannot be used: {' '.join(str(error).split()).rstrip('.')}.") from error


def check(runner: str, flags: Sequence[str]) -> None:
    """Raises InputError where `pipeline` would: before a command reads what may take hours."""
    pipeline(runner, flags)


@contextlib.contextmanager
def running(runner: str, flags: Sequence[str], output: str) -> Iterator[beam.Pipeline]:
    """Gives a pipeline that runs when the block ends; what stops it is told as commands tell it.

    Args:
      runner, flags: see `pipeline`.
      output: the folder that the pipeline writes into.

    Raises:
      InputError: a worker met one, or the disk is full.
      ServerError: a worker met one.
      KeyboardInterrupt: Ctrl-C stopped a worker.
    """
    try:
        with pipeline(runner, flags) as steps:
            yield steps
    except (InputError, ServerError) as error:
        kind = ServerError if isinstance(error, ServerError) else InputError
        raise kind(_STEP.sub("", str(error))) from error
    except Exception as error:
        # Beam wraps what stops a worker; its text alone tells.
        text = _STEP.sub("", str(error))
        if "KeyboardInterrupt" in text:
            raise KeyboardInterrupt from error
        if "No space left on device" in text:
            raise InputError(
                f"`output` {output!r} is full. Free space and run the same command again; what is finished is kept."
            ) from error
        if met := _TOLD_AS.findall(text):
            kind, message = met[-1]
            raise _TOLD[kind](message) from error
        raise


def _refuse_unknown(runner: str, flags: Sequence[str]) -> None:
    # A job server knows options of its own, which it checks itself.
    if runner in JOB_SERVER_RUNNERS:
        return
    options = PipelineOptions(list(flags))
    unknown = options.get_all_options(retain_unknown_options=True).keys() - options.get_all_options().keys()
    if unknown:
        raise InputError(f"unknown flag `--{min(unknown)}`: neither this command nor Beam has it; --help lists flags.")


def _python_runner(options: PipelineOptions) -> Any:
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    # Worker processes read their options from here.
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    info = fn_runner.ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    return fn_runner.FnApiRunner(provision_info=info)
