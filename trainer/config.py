"""The trainer's flags, which are also its YAML file and the run folder's config.json.

They stand in groups: what Fa-Net is and how it learns, FaPE-GAN, the faces that it makes, and how a run is executed. A
part of the trainer takes its group alone.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from fer_tf import competitors, environment
from fer_tf.config import group
from fer_tf.data import mixed, public
from fer_tf.data.parts import Labels
from fer_tf.data.public import HELD_OUT, MAX_HELD_OUT
from fer_tf.data.tta import TtaName
from fer_tf.errors import InputError, check_least, not_one_of
from fer_tf.labels import FA_NET, RARE_TASKS, TASKS, mirror_pairs_of
from fer_tf.models.fa_net import VARIANTS
from fer_tf.run_folder import RunFolder

PUBLIC_TASKS = (*public.NAMES, mixed.NAME)

# Of Fa-Net's flags those that a competitor's training or scoring reads too; its methods have their own for the rest.
COMPETITOR_FLAGS = ("epochs", "image_size", "synthetic", "synthetic_from", "persons_left_out", "tta")

# Whole tables of the paper: several trainings by one command.
TABLE_5, TABLE_4 = "all", "pretraining"
# jsonargparse takes the choices from them; a type checker is content with a text.
Task = str if TYPE_CHECKING else Literal[(*TASKS, *PUBLIC_TASKS, TABLE_5, TABLE_4)]
Variant = str if TYPE_CHECKING else Literal[(*VARIANTS,)]
Stage = Literal["all", "fape_gan", "synthesize", "fa_net", "evaluate"]
STAGES = get_args(Stage)[1:]


@dataclass(frozen=True)
class FaNetOptions:
    """Fa-Net and its training.

    Attributes:
      recipe: the paper's training of Fa-Net, or this project's strongest.
      variant: the backbone, light_cnn_9, light_cnn_29 or light_cnn_29_v2; or dlib_resnet, the convolutions of dlib's
        face descriptor, which begin with its weights.
      epochs: of Fa-Net's training, each a pass over the training part (under recipe paper ten for jaffe and ckplus); 0
        takes the recipe's.
      batch_size: images in a global training step of Fa-Net; 0 takes the recipe's.
      learning_rate: peak learning rate of Fa-Net; 0 takes the recipe's.
      epoch_faces: training faces that an epoch shows, drawn anew for each; 0 takes every one as often as the recipe
        says. A table's trainings with more faces take so as many steps.
      decay_epochs: epochs between two falls of recipe paper's learning rate; 0 takes the paper's 10.
      keep: which epoch's weights Fa-Net keeps: best, the most accurate on the validation part, or last; auto takes last
        for er_ue and er_up, whose validation part lacks the rare classes or pose that are tested, else best.
      labels: what Fa-Net learns of a face that several people voted on (ferplus): distribution, the shares of their
        votes; draw, one class drawn by them anew each epoch; majority, the class of more than half, and no face without
        one.
      balance: against rare classes: sampling shows each class equally often; softmax adds the logarithm of the classes'
        shares to the logits while training, so that the network answers as if they were equally frequent; softmax_real
        takes the shares of the real faces alone, as if synthetic ones did not make a class more frequent.
      balance_strength: share of that logarithm; less than 1 leaves rare classes rarer than others, but less so than the
        faces have them.
      framing: smallest and largest share of the face's side that Fa-Net sees in training, drawn for each face, such as
        0.75,1.0, so that its answer does not depend on how tightly a face is cut; the recipe's one share when empty.
      image_size: side of Fa-Net's input, pixels; 0 takes the recipe's.
      channels: 1 reads faces as grey, 3 as RGB.
      init_from: a run or model folder whose Fa-Net to begin with (classes of other names begin anew), or pretrained
        or ferplus; a light_cnn_29 may begin with a light_cnn_9. On another set --stage=evaluate also scores the mean
        answer of several, with a + between.
      teacher: a run or model folder whose Fa-Net's answers are mixed into the training labels, or pretrained or
        ferplus, or the mean answer of several with a + between; against noisy labels. It must have the same labels,
        channels and window; its input size may differ.
      teacher_weight: the teacher's share of a label, 0 to 1.
      synthetic: whether Fa-Net also trains on the run's synthetic faces when there are any.
      synthetic_from: a run folder whose synthetic faces to train on; the run's own when empty.
      persons_left_out: whether every face is also answered by a Fa-Net that never saw its person, a training more for
        each person; for a small public set whose parts share persons, such as jaffe. Competitors always are.
      tta: when evaluating, flip averages the prediction over the face and its mirror image, views over three cuts of
        both; none does not.
      mirror: mirrors half of Fa-Net's training faces where the recipe does not.
      mixup: alpha by which two training faces of Fa-Net are mixed; 0 takes the recipe's.
    """

    recipe: Literal["paper", "best"] = "best"
    variant: Variant = "light_cnn_9"
    epochs: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    epoch_faces: int = 0
    decay_epochs: float = 0.0
    keep: Literal["auto", "best", "last"] = "auto"
    labels: Labels = "distribution"
    balance: Literal["none", "sampling", "softmax", "softmax_real"] = "none"
    balance_strength: float = 1.0
    framing: str = ""
    image_size: int = 0
    channels: Literal[1, 3] = 1
    init_from: str = ""
    teacher: str = ""
    teacher_weight: float = 0.5
    synthetic: bool = True
    synthetic_from: str = ""
    persons_left_out: bool = False
    tta: TtaName = "none"
    mirror: bool = False
    mixup: float = 0.0

    def __post_init__(self) -> None:
        check_least(self, epochs=0, epoch_faces=0, batch_size=0, image_size=0, learning_rate=0, decay_epochs=0, mixup=0)
        for name in ("teacher_weight", "balance_strength"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` must be between 0 and 1. Received: {getattr(self, name)}.")
        if self.framing and self.framing_range is None:
            raise InputError(
                f"`framing` must be two shares from 0.3 to 1.3, the smaller first, such as 0.75,1.0. Received: "
                f"{self.framing!r}."
            )

    @property
    def framing_range(self) -> tuple[float, float] | None:
        """The two shares of `framing`, or None without any or for something else."""
        if not re.fullmatch(r"\d*\.?\d+,\d*\.?\d+", self.framing):
            return None
        low, high = map(float, self.framing.split(","))
        return (low, high) if 0.3 <= low <= high <= 1.3 else None


@dataclass(frozen=True)
class PretrainingOptions:
    """The first training of --task=pretraining, on the corpus; what is said of Fa-Net holds for it otherwise.

    Attributes:
      epochs: of it, each a pass over the corpus' training part; 0 takes the recipe's.
      batch_size: images in a global training step of it; 0 takes the recipe's.
      learning_rate: its peak learning rate; 0 takes the recipe's.
    """

    epochs: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0

    def __post_init__(self) -> None:
        check_least(self, "pretrain_", epochs=0, batch_size=0, learning_rate=0)


@dataclass(frozen=True)
class GanOptions:
    """FaPE-GAN and its training.

    Attributes:
      epochs: passes of FaPE-GAN over the pairs; 0 takes gan_recipe's.
      batch_size: pairs in a global training step of FaPE-GAN; 0 takes gan_recipe's.
      image_size: side of FaPE-GAN's images, pixels; 0 takes gan_recipe's.
      recipe: equations 1 to 3 as printed, or with spectral norm, feature matching, attention, averaged weights, and
        a Fa-Net that compares generated with target faces.
      face_net: a run or model folder with the Fa-Net whose inner maps of generated and target faces are matched,
        pretrained, dlib for the network of dlib's face descriptor, or none; empty takes gan_recipe's, pretrained for
        best and none for paper.
      face_weight: weight of that match beside the L1 distance's 10.
      channels: channels of FaPE-GAN's widest maps; 0 takes gan_recipe's.
      augment: whether the discriminator sees faces moved, relit and partly blanked at random, so that it does not learn
        few of them by heart (Zhao et al. 2020).
      checkpoint_steps: steps between two checkpoints inside an epoch of FaPE-GAN; one also follows each epoch.
      quality_pairs: held-out pairs on which FaPE-GAN's faces are measured after each epoch; 0 measures none.
      final_pairs: held-out pairs on which the trained FaPE-GAN is measured in the end; 0 measures none.
    """

    epochs: int = 0
    batch_size: int = 0
    image_size: int = 0
    recipe: Literal["paper", "best"] = "best"
    face_net: str = ""
    face_weight: float = 5.0
    channels: int = 0
    augment: bool = False
    checkpoint_steps: int = 500
    quality_pairs: int = 64
    final_pairs: int = 512

    def __post_init__(self) -> None:
        check_least(self, "gan_", epochs=0, batch_size=0, image_size=0, channels=0, quality_pairs=0, final_pairs=0)
        check_least(self, "gan_", checkpoint_steps=1, face_weight=0)


@dataclass(frozen=True)
class SynthesisOptions:
    """The faces that FaPE-GAN makes.

    Attributes:
      synthetic_ratio: synthetic faces for one real training face; 0 makes none.
      mirror_targets: whether made faces also follow the masks of the mirrored pose, half right's for half left.
      mirror_pairs: poses that mirror each other though no `left` and `right` in their names tells, such as
        cam1=cam5,cam2=cam4.
      max_identity_distance: a synthetic face whose dlib descriptor is farther from its source's is rejected.
      max_landmark_error: a synthetic face whose points are off by more, in eye distances, is rejected.
      landmark_model: path of the dlib predictor that finds those points, the build's; empty for the packaged one.
    """

    synthetic_ratio: float = 1.0
    mirror_targets: bool = True
    mirror_pairs: str = ""
    max_identity_distance: float = 0.6
    max_landmark_error: float = 0.12
    landmark_model: str = ""

    def __post_init__(self) -> None:
        check_least(self, synthetic_ratio=0, max_identity_distance=0, max_landmark_error=0)
        mirror_pairs_of(self.mirror_pairs)


@dataclass(frozen=True)
class RunOptions:
    """Where and how it runs.

    Attributes:
      run_dir: where everything of the run goes; runs/<task> when empty (AIP_MODEL_DIR on a hosted trainer).
      seed: seed of weights, order and augmentation.
      seeds: how many seeds --task=all and --task=pretraining train for each cell of their table.
      draws: on how many draws of the splits --task=all reports, beside the one that chooses the plain remedy; with 0 it
        reports on the data's own split, and chooses nothing.
      precision: number format of Fa-Net's layers; auto takes bfloat16 or float16 where the hardware is faster at it.
      strategy: auto takes multi_worker under TF_CONFIG, mirrored over several GPUs, else one device.
      deterministic: makes every operation reproducible bit by bit, at some cost in speed.
      profile: first and last step of Fa-Net to profile for TensorBoard, such as 20,30; empty profiles none.
    """

    run_dir: str = ""
    seed: int = 0
    seeds: int = 1
    draws: int = 3
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    strategy: Literal["auto", "one_device", "mirrored", "multi_worker"] = "auto"
    deterministic: bool = False
    profile: str = ""

    def __post_init__(self) -> None:
        check_least(self, seed=0, draws=0, seeds=1)
        if self.profile and not re.fullmatch(r"\d+,\d+", self.profile):
            raise InputError(f"`profile` must be two step numbers such as 20,30. Received: {self.profile!r}.")

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return RunFolder(self.run_dir)


@dataclass(frozen=True)
class TaskConfig:
    """What to train and on what; 0 and empty mean the recipe's own value.

    Attributes:
      task: one of the four tasks of section 4.1, a public set (fer2013, ferplus, jaffe, ckplus, kdef), pictures for
        any labelled ones, mixed for several sets together, all for the four tasks with and without FaPE-GAN's faces
        (Table 5), or pretraining for public sets with and without pre-training on one of the four (Table 4).
      stage: one stage alone, or all of them in order; a finished stage is skipped. evaluate with another task than the
        run's scores its network on that set: the pictures as given, and end to end, faces found and aligned first.
      method: Fa-Net, or one of the paper's competitors (docs/competitors.md), which takes Fa-Net's stage.
      data: data folder written by beam_pipelines.build, or the public set's folder or CSV file; of several sets
        task=path with commas, such as ferplus=PATH,er_ss=data/faces; likewise the corpus and the public sets of
        --task=pretraining.
      mapping: of several sets, other names of their labels, such as er_ss.laughing=happy, or - for a label whose faces
        are left out, such as ckplus.contempt=-; also of a set on which another's network is scored.
      set_weights: of several sets, how often one's faces are seen in an epoch, such as jaffe=3; once when not named.
      held_out: share of FER2013's Training that is the validation part where PrivateTest is not given; with 0 all of it
        is trained on, the last epoch is kept, and the temperature is that of init_from, else of teacher, else 1 (in a
        mixture that of the other sets' validation faces).
      split_seed: splits the data anew before anything else: other rare classes, another rare pose (each in turn), other
        unseen persons; -1 keeps the split that the data was built with. --task=all chooses on this draw, and reports on
        those after it.
      fa_net: what Fa-Net is and how it learns.
      pretraining: likewise the network that --task=pretraining trains first.
      gan: likewise FaPE-GAN.
      synthesis: which faces FaPE-GAN makes and which of them are kept.
      run: where and how it runs.
    """

    task: Task = "er_ss"
    stage: Stage = "all"
    method: str = FA_NET
    data: str = "data/faces"
    mapping: str = ""
    set_weights: str = ""
    held_out: float = HELD_OUT
    split_seed: int = -1
    fa_net: FaNetOptions = group(FaNetOptions)
    pretraining: PretrainingOptions = group(PretrainingOptions, prefix="pretrain_")
    gan: GanOptions = group(GanOptions, prefix="gan_")
    synthesis: SynthesisOptions = group(SynthesisOptions)
    run: RunOptions = group(RunOptions)

    def __post_init__(self) -> None:
        if not 0 <= self.held_out <= MAX_HELD_OUT:
            raise InputError(f"`held_out` must be between 0 and {MAX_HELD_OUT}. Received: {self.held_out}.")
        if self.task in PUBLIC_TASKS and self.stage in ("fape_gan", "synthesize"):
            raise InputError(f"`stage` {self.stage!r} needs the pipeline's pairs; `task` {self.task!r} has none.")
        self._check_split_seed()
        self._check_method()
        if self.is_table and self.stage != "all":
            raise InputError(
                f"`task` {self.task!r} trains a whole table, stage by stage. Received: `stage` {self.stage!r}."
            )
        if self.task == TABLE_4 and self.fa_net.init_from:
            raise InputError(
                f"`init_from` is what --task={TABLE_4} compares. Received: {self.fa_net.init_from!r}; give it to the "
                "task of one set."
            )
        if self.task == TABLE_4 and self.fa_net.teacher:
            raise InputError(
                f"`teacher` answers one set's labels, and --task={TABLE_4} trains on the corpus' and on each public "
                f"set's. Received: {self.fa_net.teacher!r}; give it to the task of one set."
            )
        if self.task != mixed.NAME and (self.set_weights or (self.mapping and self.stage != "evaluate")):
            raise InputError(f"`mapping` and `set_weights` are for --task={mixed.NAME}. Received: {self.task!r}.")
        if not self.run.run_dir:
            own = f"runs/{self.task}_{self.method}" if self.is_competitor else f"runs/{self.task}"
            run = dataclasses.replace(self.run, run_dir=environment.model_folder(own))
            object.__setattr__(self, "run", run)

    def _check_split_seed(self) -> None:
        if self.split_seed < -1:
            raise InputError(
                f"`split_seed` must be at least 0, or -1 for the data's split. Received: {self.split_seed}."
            )
        if self.split_seed >= 0 and (self.is_public or self.task == TABLE_4):
            what = "is a set with its own" if self.is_public else "has none of its own"
            raise InputError(f"`split_seed` draws the four tasks' splits; `task` {self.task!r} {what}.")

    def _check_method(self) -> None:
        if self.method not in (FA_NET, *competitors.NAMES):
            raise not_one_of("method", self.method, (FA_NET, *competitors.NAMES))
        if self.is_competitor and (self.stage in ("fape_gan", "synthesize") or self.is_table):
            what = f"`task` {self.task!r}" if self.is_table else f"`stage` {self.stage!r}"
            raise InputError(f"{what} belongs to --method=fa_net. Received: `method` {self.method!r}.")
        # A run of before this was refused is still scored: its config.json may name them.
        if self.is_competitor and self.stage != "evaluate":
            self._check_competitor()

    def _check_competitor(self) -> None:
        """Refuses what config.json would name as done and no competitor does."""
        fields = [field for field in dataclasses.fields(FaNetOptions) if field.name not in COMPETITOR_FLAGS]
        known = [(field.name, getattr(self.fa_net, field.name), field.default) for field in fields]
        for name, given, default in (("set_weights", self.set_weights, ""), *known):
            if given != default:
                raise InputError(
                    f"`{name}` is Fa-Net's, and no competitor takes it. Received: {given!r} with `method` "
                    f"{self.method!r}; leave it out, or give --method={FA_NET}."
                )

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return self.run.folder

    @property
    def keeps_last(self) -> bool:
        """Whether Fa-Net keeps its last epoch, not the one that is best on the validation part."""
        return self.fa_net.keep == "last" or (self.fa_net.keep == "auto" and self.task in RARE_TASKS)

    @property
    def is_competitor(self) -> bool:
        """Whether another method than Fa-Net is trained."""
        return self.method != FA_NET

    @property
    def is_public(self) -> bool:
        """Whether the task is a public set, which has no pairs and so no GAN."""
        return self.task not in TASKS and not self.is_table

    @property
    def is_table(self) -> bool:
        """Whether a table of several trainings is asked for."""
        return self.task in (TABLE_5, TABLE_4)
