"""`python -m trainer.task`: trains FaPE-GAN, synthesizes faces, trains Fa-Net and evaluates it, stage by stage."""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
from collections.abc import Iterator, Sequence

from fer_tf.config import EXIT_FAILED, EXIT_OK, parse, resuming, run_command
from fer_tf.files import CannotWrite, cannot_write
from trainer.config import PUBLIC_TASKS, STAGES, TABLE_4, TABLE_5, TaskConfig

# Modules of stages and tables are imported when their turn comes, so that --help is instant.
TABLE_MODULES = {TABLE_5: "trainer.table5", TABLE_4: "trainer.table4"}


def stages_of(config: TaskConfig) -> tuple[str, ...]:
    """Returns the stages that a config asks for, in order; a public set has no pairs and so no GAN."""
    if config.stage != "all":
        return (config.stage,)
    alone = config.task in PUBLIC_TASKS or config.is_competitor
    return tuple(stage for stage in STAGES if not (alone and stage in ("fape_gan", "synthesize")))


def module_of(config: TaskConfig, stage: str) -> str:
    """Returns the module of a stage, which has its name, a competitor's, or the one that judges on another set."""
    from trainer import runtime

    if runtime.is_across(config):
        return "trainer.across"
    return "trainer.competitor" if stage == "fa_net" and config.is_competitor else f"trainer.{stage}"


@resuming
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    config, _ = parse(
        TaskConfig,
        argv,
        prog="python -m trainer.task",
        description="Trains and evaluates a task: FaPE-GAN, synthetic faces, Fa-Net. The same command resumes.",
    )
    from trainer import runtime

    try:
        if config.is_table:
            importlib.import_module(TABLE_MODULES[config.task]).run(config)
        else:
            _run_stages(config)
    except (runtime.TrainingFailed, CannotWrite) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _run_stages(config: TaskConfig) -> None:
    from trainer import runtime

    config = runtime.drawn(runtime.as_begun(config))
    with runtime.run_log(config.folder):
        runtime.set_up(config)
        for stage in stages_of(config):
            logging.info("stage %s of %s in %s", stage, config.task, config.run.run_dir)
            module = importlib.import_module(module_of(config, stage))
            with _telling_of_events(config):
                module.run(config)


@contextlib.contextmanager
def _telling_of_events(config: TaskConfig) -> Iterator[None]:
    """TensorBoard's writers, ours and Keras's, flush where they like; a full disk there is told as elsewhere."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        if "events" not in error.message:
            raise
        raise cannot_write(f"TensorBoard's events below {config.run.run_dir}", error) from error


if __name__ == "__main__":
    sys.exit(run_command(main))
