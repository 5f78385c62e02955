"""Training: one loop, steps, schedules, and run folders that survive being killed."""

from .adversarial import Played, adversarial_step, game_optimizer
from .games import Game, Turn, encoder_parameters
from .games_of_codes import AAE, WAEGAN, WAEMMD, reconstruction_cost
from .games_of_hybrids import VGH, VGHPlusPlus
from .games_of_pairs import AVB, VEEGAN, MatchedELBO, contrast
from .games_of_samples import WGANGP, GANGame
from .held_out import HeldOut, held_out_bound
from .importance_objectives import (
    CIWAE,
    IWAE,
    MIWAE,
    PIWAE,
    DReG,
    ScoreFunction,
    StickingTheLanding,
    WakePhase,
)
from .interruption import TrainingInterrupted
from .lagging import lagging_inference_step, random_minibatches
from .launcher import Launcher, SingleDevice
from .metrics import COLUMNS, Row, read_rows
from .minibatches import Minibatch, minibatches
from .objective import ELBO, AnnealedEntropy, BetaELBO, FreeBits, KLWeight, Objective
from .run import TrainingResult, train
from .run_folder import RunFolder, SavedRun, load_run, open_run
from .schedules import burda_rate, constant, cyclical, entropy_annealing, linear_warm_up
from .settings import TrainingSettings
from .slices import Slice, train_in_slices
from .steps import Step, adam, fit, objective_step
from .total_correlation import BetaTCVAE

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
