"""Runs of hybrids, one after another or each in a process of its own, and one run alone.

A run is trained and scored into the folder of its name in the state; whoever works in that folder
holds its lock. With workers the runs are those of a sweep, and one more "run" is the score of
held-out data; when all are over, what they kept is read as if it had been made here.

The file is long because a run is trained in three ways that must give the same numbers.
"""

from __future__ import annotations

__all__ = [
    "BATCH_SIZE",
    "BETAS",
    "HybridRun",
    "Kind",
    "Outcome",
    "Outcomes",
    "Pace",
    "Processes",
    "all_runs",
    "evaluation_draw",
    "hybrid_course",
    "hybrid_runs",
    "new_autoencoder",
    "one_process_each",
    "run_name",
    "this_run",
    "train_run",
]

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from elboscope.core import InputError, seeded
from elboscope.core.files import only_process, replace_file
from elboscope.data import Binarisation
from elboscope.models import Hybrid, start_at_mean
from elboscope.models.hybrids import Adversary, color_mnist_hybrid, dcgan_hybrid
from elboscope.nn import conv_joint_discriminator
from elboscope.sweeps.executor import held
from elboscope.sweeps.study import run_state
from elboscope.training import AAE, ELBO, VEEGAN, adversarial_step, game_optimizer
from elboscope.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint, weights
from elboscope.training.data import Minibatch, minibatches
from elboscope.training.steps import (
    Interruption,
    TrainingInterrupted,
    adam,
    interruptible,
    objective_step,
)

from ..frame.course import Course, Trained
from ..frame.sitting import Sitting, Workers, device_name
from ..frame.training import derived_seed, file_name
from ..frame.workers import IndependentRuns, in_processes, leave_result
from .hybrid_plan import GANS, MODELS, HybridImages, HybridsPlan, Setting
from .hybrid_scores import DATA, KINDS, PICTURES, Scores, kept_scores, measure_run, scores_of_data
from .networks import new_model, optimizer_and_step

METRIC = "samples: critic_test"


class HybridRun(NamedTuple):
    """A setting with the number of its seed.

    Attributes:
        setting: Which.
        number: 0 for the first seed.
    """

    setting: Setting
    number: int

    @property
    def name(self) -> str:
        """Name of its folder in the state.

        Example:
            >>> HybridRun(Setting("VGH++", 1e-3, (1.0, 5.0)), 2).name
            'VGHpp-e-1-g-5-rate-0.001-run-2'
        """
        return f"{file_name(self.setting.label.replace('++', 'pp'))}-run-{self.number}"

    def kinds(self, plan: HybridsPlan) -> tuple[str, ...]:
        """Returns what is scored: reconstructions in a model's own setting alone, if it encodes."""
        own = self.setting == plan.own(self.setting.model)
        return KINDS if own and self.setting.model not in GANS else KINDS[:1]


class Outcome(NamedTuple):
    """What is kept of a run.

    Attributes:
        scores: Scores of its samples and reconstructions.
        pictures: A few of either.
        steps: Steps that its weights have seen.
    """

    scores: Scores
    pictures: Mapping[str, Tensor]
    steps: int


Outcomes = dict[HybridRun, Outcome]


class Processes(NamedTuple):
    """What became of runs in other processes.

    Attributes:
        failed: Why the runs that failed did, by name.
        devices: The devices of the others.
        seconds: Seconds spent on all together.
    """

    failed: Mapping[str, str]
    devices: tuple[str, ...]
    seconds: float


def hybrid_runs(plan: HybridsPlan) -> tuple[HybridRun, ...]:
    """Returns all runs of a plan."""
    return tuple(HybridRun(*pair) for pair in plan.runs)


def all_runs(
    images: HybridImages, plan: HybridsPlan, seed: int, now: Sitting, failed: Mapping[str, str]
) -> Outcomes:
    """Trains and scores every run but the failed ones, in this process; what is kept is read.

    Raises:
        Unfinished: The slice of time is over.
        InputError: A model of which no run is there; another process works on a run.
    """
    runs = hybrid_runs(plan)
    _require_every_model(runs, plan, failed)
    found: Outcomes = {}
    for index, run in enumerate(runs):
        if run.name not in failed:
            now.say(f"{run.setting.label}, run {run.number}", index, len(runs))
            found[run] = _outcome(run, images, plan, seed, now)
    return found


def _require_every_model(
    runs: tuple[HybridRun, ...], plan: HybridsPlan, failed: Mapping[str, str]
) -> None:
    for model in MODELS:
        own = [run.name for run in runs if run.setting == plan.own(model)]
        if all(name in failed for name in own):
            do = "What has ended is kept; --resume begins failed runs again."
            expected, got = "a run that ends well", f"none: {failed[own[0]]}"
            raise InputError(model, expected=expected, got=got, do=do)


def _outcome(
    run: HybridRun, images: HybridImages, plan: HybridsPlan, seed: int, now: Sitting
) -> Outcome:
    folder, own_seed = now.folder / run.name, seed + run.number
    folder.mkdir(exist_ok=True)
    with only_process(folder):
        with seeded(derived_seed(f"weights of {run.setting.model}", own_seed)):
            model = new_model(run.setting.model, plan, images.shape).to(images.train.device)
        steps = train_run(run.setting, model, images.train, plan, folder, own_seed, now)
        scores, pictures = measure_run(
            run.name, model, images, plan, own_seed, now, kinds=run.kinds(plan)
        )
    return Outcome(scores, pictures, steps)


def run_name(number: int, plan: HybridsPlan) -> str:
    """Returns the name of a run by its number; that after the last is the score of held-out data.

    Raises:
        InputError: There is no such run.
    """
    names = _swept(plan, 0).names
    if number >= len(names):
        raise InputError("a run", expected=f"a number below {len(names)}", got=str(number))
    return names[number]


def _swept(plan: HybridsPlan, seed: int) -> IndependentRuns:
    names = (*(run.name for run in hybrid_runs(plan)), DATA)
    return IndependentRuns(names, METRIC, "minimise", seed)


def one_process_each(
    images: HybridImages,
    plan: HybridsPlan,
    seed: int,
    asked: Mapping[str, object],
    workers: Workers,
    now: Sitting,
    *,
    begin_failed: bool,
) -> Processes:
    """Has the runs done by other processes, but for those that are kept already.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came; runs were saved first.
    """
    runs = _swept(plan, seed)
    for number, name in enumerate(runs.names):
        folder = runs.folder(now.folder, number)
        if not run_state(folder).over and not held(folder) and _is_whole(number, plan, now.folder):
            scores, _ = _scores_of(number, images, plan, seed, now)
            leave_result(folder, _values(scores), math.nan, {"run": name})
    failed = in_processes(runs, asked, workers, now, begin_failed=begin_failed)
    said = [_record(runs.folder(now.folder, number)) for number in range(len(runs.names))]
    devices = dict.fromkeys(str(one["device"]) for one in said if "device" in one)
    return Processes(failed, tuple(devices), sum(one.get("seconds", 0.0) for one in said))


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    content: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return content


def _is_whole(number: int, plan: HybridsPlan, state: Path) -> bool:
    runs = hybrid_runs(plan)
    if number == len(runs):
        folder, names = state / DATA, kept_scores(KINDS[:1], plan)
    else:
        run = runs[number]
        folder, names = state / run.name, [ENDED, PICTURES, *kept_scores(run.kinds(plan), plan)]
    return all((folder / name).is_file() for name in names)


def _values(scores: Scores) -> dict[str, float]:
    return {name: found.value for name, found in scores.items()}


def this_run(number: int, images: HybridImages, plan: HybridsPlan, seed: int, now: Sitting) -> None:
    """Trains and scores one run, and leaves what the sweep reads of it.

    Args:
        number: See :func:`run_name`.
        images: The reproduction's images.
        plan: The reproduction's plan.
        seed: Random seed of the reproduction.
        now: The sitting of this run.
    """
    runs = _swept(plan, seed)
    scores, steps = _scores_of(number, images, plan, seed, now)
    about = {
        "run": runs.names[number],
        "steps": steps,
        "device": device_name(images.train.device),
        "seconds": round(now.seconds, 1),
    }
    leave_result(runs.folder(now.folder, number), _values(scores), now.seconds, about)


def _scores_of(
    number: int, images: HybridImages, plan: HybridsPlan, seed: int, now: Sitting
) -> tuple[Scores, int]:
    """With the steps of training: none for data."""
    runs = hybrid_runs(plan)
    if number == len(runs):
        return scores_of_data(images, plan, seed, now), 0
    outcome = _outcome(runs[number], images, plan, seed, now)
    return outcome.scores, outcome.steps


# A VAE, an adversarial autoencoder and VEEGAN of the same networks, trained step by step.
#
# All three are :class:`~elboscope.models.Hybrid` models with an explicit encoder and decoder;
# what differs is what they are trained by, and which adversary they carry. A step takes a
# minibatch of images drawn with replacement from the ambient random state, so that a training
# that was stopped goes on as if it had not been. A Bernoulli likelihood is one of binary images:
# VAE and AAE see each minibatch drawn afresh from its grey values. VEEGAN, whose adversary would
# tell binary data from grey means at a glance, sees the grey values themselves.

Kind = Literal["VAE", "AAE", "VEEGAN"]
ADVERSARIES: Mapping[Kind, tuple[Adversary, ...]] = {
    "VAE": (),
    "AAE": ("code",),
    "VEEGAN": ("joint",),
}
GAMES: Mapping[Kind, AAE | VEEGAN] = {"AAE": AAE(), "VEEGAN": VEEGAN()}
BATCH_SIZE = 64
BETAS = (0.5, 0.9)
LEVELS = 255
BINARISATION = Binarisation("dynamic", seed=0)
# Evaluated training images do not share the noise of test images.
TRAIN_STREAM = 1


class Pace(NamedTuple):
    """How a model is trained.

    Attributes:
        rate: Adam's, of every player.
        seed: Random seed of weights and of all draws.
    """

    rate: float
    seed: int


def new_autoencoder(
    kind: Kind,
    x: UInt8[Tensor, "N 3 H W"],
    latents: int,
    maps: tuple[int, ...],
    code_hidden: tuple[int, ...],
    joint_maps: tuple[int, int] = (64, 128),
) -> Hybrid:
    """Returns a model, its weights drawn from the ambient random state.

    The bias of the decoder's last layer begins at the mean colours of the images.

    Args:
        kind: Says which adversary it carries.
        x: Grey values, 0 to 255.
        latents: d.
        maps: Two: the networks of ColorMNIST; more: those of the DCGAN.
        code_hidden: Widths of the code discriminator.
        joint_maps: Channels of VEEGAN's joint discriminator.

    Example:
        >>> x = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        >>> model = new_autoencoder("AAE", x, 3, (4, 8), (16,))
        >>> model.latent_shape, list(model.adversaries)
        ((3,), ['code'])
    """
    shape = tuple(x.shape[1:])
    if len(maps) == 2:
        few, many = maps
        model = color_mnist_hybrid(
            shape, latents, (few, many), ADVERSARIES[kind], code_hidden=code_hidden
        )
    else:
        model = dcgan_hybrid(shape, latents, maps, ADVERSARIES[kind], code_hidden)
    if kind == "VEEGAN":
        model.adversaries["joint"] = conv_joint_discriminator(shape, latents, joint_maps)
    return start_at_mean(model, x.float() / LEVELS)


def hybrid_course(
    name: str,
    kind: Kind,
    model: Hybrid,
    x: UInt8[Tensor, "N 3 H W"],
    pace: Pace,
    measured: Sequence[int],
    look: Callable[[int], Mapping[str, float]],
    identity: Mapping[str, object],
) -> Course:
    """Returns the training of a model, to be run in sittings.

    Args:
        name: The model's name, for messages and files.
        kind: What trains it.
        model: The model, on the device of x.
        x: Grey values, 0 to 255.
        pace: How.
        measured: Steps after which to look, ascending; the last ends the training.
        look: Called after them.
        identity: What must not change between two sittings.
    """
    step: Callable[[Minibatch], object]
    if kind == "VAE":
        optimizer = adam(model.parameters(), pace.rate, BETAS)
        step = objective_step(model, ELBO(), optimizer)
    else:
        optimizer = game_optimizer(GAMES[kind], model, pace.rate, BETAS)
        step = adversarial_step(model, GAMES[kind], optimizer)
    binary = kind != "VEEGAN"

    def take() -> None:
        step(Minibatch(_minibatch(x, binary=binary), 0.0))

    about = {"kind": kind, **pace._asdict(), **identity}
    return Course(name, model, optimizer, take, look, measured, pace.seed, about)


def _minibatch(x: UInt8[Tensor, "N 3 H W"], *, binary: bool) -> Float[Tensor, "B 3 H W"]:
    rows = torch.randint(len(x), (BATCH_SIZE,)).to(x.device)
    grey = x[rows].float() / LEVELS
    return BINARISATION.batch(grey) if binary else grey


def evaluation_draw(x: UInt8[Tensor, "n 3 H W"], *, of_training: bool) -> Float[Tensor, "n 3 H W"]:
    """Returns the one binary draw of images on which a model is evaluated.

    Args:
        x: Grey values, 0 to 255.
        of_training: Whether the images were trained on.

    Example:
        >>> x = torch.full((1, 3, 4, 4), 128, dtype=torch.uint8)
        >>> evaluation_draw(x, of_training=True).unique().tolist()
        [0.0, 1.0]
    """
    grey = x.float() / LEVELS
    if of_training:
        return BINARISATION.fixed_draw(grey, stream=TRAIN_STREAM)
    return BINARISATION.fixed_draw(grey)


# Training of one run in slices: a game or an objective, from a checkpoint to the last step.
#
# A run that ended is kept as its weights alone, in ``model.safetensors`` of its folder; it is
# never trained again, and its scores lie beside. Ctrl-C and SIGTERM save the state after the
# current step. A run whose weights are no longer numbers ends as it was at its last whole
# checkpoint: in a sweep that is a finding, and no reason to stop the rest.

CHECKPOINT, ENDED = "checkpoint.safetensors", "model.safetensors"
# Steps between two looks at the weights, at each of which the state is saved.
SAVED_EVERY = 500


def train_run(
    setting: Setting,
    model: Trained,
    x: Float[Tensor, "N C H W"],
    plan: HybridsPlan,
    folder: Path,
    seed: int,
    now: Sitting,
) -> int:
    """Trains a model in place, or reads its weights.

    Args:
        setting: Which game, and its hyper-parameters.
        model: The model, on the device of x.
        x: Training images.
        plan: How long.
        folder: Folder of this run.
        seed: Random seed of the order of the images and of all draws.
        now: The sitting; at least one step is taken before it ends.

    Returns:
        The steps that its weights have seen: fewer than planned where it diverged.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    if (folder / ENDED).is_file():
        model.load_state_dict(load_file(folder / ENDED, device=str(x.device)))
        model.eval()
        return int(json.loads((folder / "steps.json").read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    with seeded(seed), interruptible() as stop:
        steps = _steps(setting, model, x, plan, folder, seed, now, stop)
        model.eval()
        now.keep(f"{folder.name}/steps.json", json.dumps(steps))
        replace_file(folder / ENDED, lambda aside: save_file(weights(model), aside))
        (folder / CHECKPOINT).unlink(missing_ok=True)
    if stop.reason:
        raise TrainingInterrupted(stop.reason, steps, _epoch(steps, setting, x, plan), folder)
    return steps


def _images_a_step(setting: Setting, plan: HybridsPlan) -> int:
    return plan.batch_size * (plan.critic_steps if setting.model == "WGAN-GP" else 1)


def _epoch(steps: int, setting: Setting, x: Tensor, plan: HybridsPlan) -> float:
    return steps * _images_a_step(setting, plan) / len(x)


def _steps(
    setting: Setting,
    model: Trained,
    x: Tensor,
    plan: HybridsPlan,
    folder: Path,
    seed: int,
    now: Sitting,
    stop: Interruption,
) -> int:
    optimizer, step = optimizer_and_step(setting, plan, model)
    identity = {"setting": setting.label, "seed": seed, "batch size": plan.batch_size}
    path, state = folder / CHECKPOINT, TrainingState()

    def keep() -> None:
        save_checkpoint(path, model, optimizer, state, identity)

    if path.is_file():
        state = load_checkpoint(path, model, optimizer, identity)
    else:
        keep()
    model.train()
    batches = minibatches(x, _images_a_step(setting, plan), seed, start=state.step)
    while state.step < plan.steps:
        if not _taken(step, next(batches), model):
            return load_checkpoint(path, model, optimizer, identity).step
        state.step += 1
        late = now.left <= 0 or bool(stop.reason)
        due = state.step % SAVED_EVERY == 0
        if not (late or due or state.step == plan.steps):
            continue
        if not _finite(model):
            return load_checkpoint(path, model, optimizer, identity).step
        now.say(f"{setting.label}: training", state.step, plan.steps)
        keep()
        if stop.reason and state.step < plan.steps:
            epoch = _epoch(state.step, setting, x, plan)
            raise TrainingInterrupted(stop.reason, state.step, epoch, folder)
        if late and state.step < plan.steps:
            raise now.unfinished(f"{setting.label}, step {state.step} of {plan.steps}")
    return state.step


def _taken(step: Callable[[Minibatch], object], batch: Minibatch, model: Trained) -> bool:
    """Takes a step; False where a distribution refused the NaN of weights that diverged."""
    try:
        step(batch)
    except ValueError:
        if _finite(model):
            raise
        return False
    return True


def _finite(module: nn.Module) -> bool:
    tensors = [t for t in module.state_dict().values() if t.is_floating_point()]
    return bool(torch.stack([t.isfinite().all() for t in tensors]).all())
