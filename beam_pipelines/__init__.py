"""Apache Beam commands: build the dataset, synthesize faces, predict over folders of videos."""

import logging


def _is_news(record: logging.LogRecord) -> bool:
    # Beam says at every import that a Google Cloud library, needed for BigQuery alone, is not there.
    return not str(record.msg).startswith("apitools not found")


logging.getLogger().addFilter(_is_news)
