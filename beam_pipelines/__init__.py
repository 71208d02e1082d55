"""Apache Beam commands: build the dataset, synthesize faces, predict over folders of videos."""

import logging
import os
import sys

from fer_tf import start_up


def _is_news(record: logging.LogRecord) -> bool:
    # Beam says at every import that a Google Cloud library, needed for BigQuery alone, is not there.
    return not str(record.msg).startswith("apitools not found")


logging.getLogger().addFilter(_is_news)

# On another runner's workers too, which inherit no environment, faces are found by the same kernels.
start_up.ask_for_onednn()
# Beam starts worker processes without run_command; they inherit the environment of a command that is quiet.
if any("sdk_worker_main" in word for word in sys.orig_argv) and "TF_CPP_MIN_LOG_LEVEL" in os.environ:
    start_up.quiet()
