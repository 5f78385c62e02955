"""Training: one loop, steps, schedules, and run folders that survive being killed."""

from elboscope.objectives import (
    CIWAE,
    ELBO,
    IWAE,
    MIWAE,
    PIWAE,
    AnnealedEntropy,
    BetaELBO,
    BetaTCVAE,
    DReG,
    FreeBits,
    KLWeight,
    Objective,
    ScoreFunction,
    StickingTheLanding,
    WakePhase,
    cyclical,
    entropy_annealing,
    linear_warm_up,
)

from .data import Minibatch, minibatches
from .games.base import Game, Turn, encoder_parameters
from .games.codes import AAE, WAEGAN, WAEMMD, reconstruction_cost
from .games.hybrids import VGH, VGHPlusPlus
from .games.pairs import AVB, VEEGAN, MatchedELBO, contrast
from .games.samples import WGANGP, GANGame
from .games.step import Played, adversarial_step, game_optimizer
from .metrics import COLUMNS, HeldOut, Row, held_out_bound, read_rows
from .run import TrainingResult, train
from .run_folder import RunFolder, SavedRun, load_run, open_run
from .settings import TrainingSettings, burda_rate, constant
from .slices import Slice, train_in_slices
from .steps import (
    Launcher,
    SingleDevice,
    Step,
    TrainingInterrupted,
    adam,
    fit,
    lagging_inference_step,
    objective_step,
    random_minibatches,
)

__all__ = [
    "AAE",
    "AVB",
    "CIWAE",
    "COLUMNS",
    "ELBO",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "VEEGAN",
    "VGH",
    "WAEGAN",
    "WAEMMD",
    "WGANGP",
    "AnnealedEntropy",
    "BetaELBO",
    "BetaTCVAE",
    "DReG",
    "FreeBits",
    "GANGame",
    "Game",
    "HeldOut",
    "KLWeight",
    "Launcher",
    "MatchedELBO",
    "Minibatch",
    "Objective",
    "Played",
    "Row",
    "RunFolder",
    "SavedRun",
    "ScoreFunction",
    "SingleDevice",
    "Slice",
    "Step",
    "StickingTheLanding",
    "TrainingInterrupted",
    "TrainingResult",
    "TrainingSettings",
    "Turn",
    "VGHPlusPlus",
    "WakePhase",
    "adam",
    "adversarial_step",
    "burda_rate",
    "constant",
    "contrast",
    "cyclical",
    "encoder_parameters",
    "entropy_annealing",
    "fit",
    "game_optimizer",
    "held_out_bound",
    "lagging_inference_step",
    "linear_warm_up",
    "load_run",
    "minibatches",
    "objective_step",
    "open_run",
    "random_minibatches",
    "read_rows",
    "reconstruction_cost",
    "train",
    "train_in_slices",
]
