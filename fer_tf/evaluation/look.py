"""Forwards the command's former name for one release: it is `python -m fer_tf.reports.look`."""

import runpy
import sys

if __name__ == "__main__":
    print("note: this command is now `python -m fer_tf.reports.look`", file=sys.stderr)
    runpy.run_module("fer_tf.reports.look", run_name="__main__", alter_sys=True)
