"""Runs the command: `python -m serving.review`."""

import sys

from fer_tf.config import run_command
from serving.review import main

if __name__ == "__main__":
    sys.exit(run_command(main))
