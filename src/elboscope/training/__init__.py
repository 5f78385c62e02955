"""Training: one loop, steps, schedules, and run folders that survive being killed."""

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
    "CIWAE",
    "COLUMNS",
    "ELBO",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "AnnealedEntropy",
    "BetaELBO",
    "BetaTCVAE",
    "DReG",
    "FreeBits",
    "HeldOut",
    "KLWeight",
    "Launcher",
    "Minibatch",
    "Objective",
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
    "WakePhase",
    "adam",
    "burda_rate",
    "constant",
    "cyclical",
    "entropy_annealing",
    "fit",
    "held_out_bound",
    "lagging_inference_step",
    "linear_warm_up",
    "load_run",
    "minibatches",
    "objective_step",
    "open_run",
    "random_minibatches",
    "read_rows",
    "train",
    "train_in_slices",
]
