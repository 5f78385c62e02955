"""``elboscope demo``: real images, a small VAE, a full diagnosis, under a minute.

The data are scikit-learn's handwritten digits, x ~ Bernoulli(grey/16): a fresh draw in each
minibatch, one fixed draw for the evaluation.
"""

from __future__ import annotations

__all__ = ["run"]

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from elboscope import data
from elboscope.core.files import output_folder

from .diagnose_command import diagnosed
from .evaluation_data import evaluation_data, load_target
from .parser import Arguments
from .resolve import resolve
from .terminal import UsageError, say
from .train_command import run_training

CONFIG: dict[str, Any] = {
    "data": "digits",
    "binarisation": {"mode": "dynamic", "seed": 0},
    "model": {"class_path": "mlp_vae", "init_args": {"latent_dim": 8, "hidden": [128, 128]}},
    "objective": {"class_path": "ELBO"},
    "training": {"epochs": 300, "tensorboard": False},
}


def run(arguments: Arguments) -> int:
    """Trains in a run folder, diagnoses it, and says where everything is."""
    with _one_thread():
        return _run(arguments)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Layers of 128 units gain nothing from a second thread, and lose all if its core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _run(arguments: Arguments) -> int:
    began = time.monotonic()
    folder = output_folder(arguments.out)
    seeds = {"training": {**CONFIG["training"], "seed": arguments.seed}}
    resolved = resolve({**CONFIG, **seeds})
    images = data.load(resolved.data)
    say(images)
    say(f"training: {resolved.settings.epochs} epochs, {resolved.binarisation}")
    result = run_training(resolved, images, folder, resume=_is_demo(folder))
    say(f"{result.status}; run folder {folder}")
    arguments.data = arguments.binarise = arguments.data_dir = None
    target = load_target(str(folder))
    evaluated = evaluation_data(target, arguments)
    diagnosed(target, evaluated, folder, budget="standard", seed=arguments.seed, resume=True)
    print(f"Done in {time.monotonic() - began:.0f} s. Open {(folder / 'report.html').resolve()}")
    return 0


def _is_demo(folder: Path) -> bool:
    """Whether a demo was trained there before: it is then continued, or found finished.

    Raises:
        UsageError: Something else is there.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if (folder / "run.json").is_file() and (folder / "config.yaml").is_file():
        return True
    got = "a file" if folder.is_file() else "a folder with other files"
    raise UsageError(
        "--out", expected="a new folder, or one of an earlier demo", got=f"{folder}, {got}",
        do="Name another with --out DIR.",
    )  # fmt: skip
