"""``elboscope train``: a configuration becomes a run folder."""

from __future__ import annotations

__all__ = ["absolute", "require_device", "run", "run_training"]

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from elboscope import data
from elboscope.core import seeded
from elboscope.core.files import expanded, output_folder
from elboscope.data import Images
from elboscope.training import TrainingResult, TrainingSettings, train

from .config import Config, apply_overrides, dump, read_config
from .load import foreign_code, is_reference, require_trust
from .parser import Arguments
from .resolve import Resolved, resolve
from .terminal import UsageError, lines, say

DIVERGED = 1
# Where one of these lies beside it, a configuration is that of a run folder.
OF_A_RUN = ("run.json", "model.safetensors", "training_state")


def run(arguments: Arguments) -> int:
    """Trains, says where the run is and what to do next; 1 if training diverged."""
    config = apply_overrides(_read(arguments), arguments.overrides)
    out = _out(arguments)
    resolved = resolve(absolute(config))
    require_device(resolved.settings)
    images = data.load(resolved.data, arguments.data_dir)
    say(images)
    result = run_training(resolved, images, out, resume=arguments.resume)
    say(_summary(result, out, resolved.config))
    return DIVERGED if result.diverged else 0


def _read(arguments: Arguments) -> Config:
    """The configuration; that of a run folder is data, and imports nothing unasked."""
    config, file = read_config(arguments.config), expanded(arguments.config)
    if any((file.parent / name).exists() for name in OF_A_RUN):
        built = {key: config.get(key) for key in ("model", "objective")}
        require_trust(file, built, trust=arguments.trust)
    return config


def run_training(resolved: Resolved, images: Images, out: Path, *, resume: bool) -> TrainingResult:
    """Builds the model from the seed, trains it on the training part, and records both."""
    with seeded(resolved.settings.seed):
        model = resolved.model(images.data_shape)
    about: dict[str, Any] = {"name": images.name, "source": images.source}
    about |= {"images_checksum": images.checksum, "images_treatment": images.treatment}
    fraction = resolved.settings.validation_fraction
    own = images.validation is not None
    about["validation"] = "the set's own part" if own else f"{fraction:g} of the training data"
    with _progress() as progress:
        return train(
            model,
            images.train,
            resolved.settings,
            out,
            binarisation=resolved.binarisation,
            x=images.validation,
            resume=resume,
            progress=progress,
            config=dump(resolved.config),
            about={"data_set": about},
        )


@contextmanager
def _progress() -> Iterator[bool | Callable[[int, int], None]]:
    """A bar on a terminal, and a line now and then elsewhere."""
    if sys.stderr.isatty():
        yield True
        return
    with lines("training") as note:
        yield lambda done, total: note(f"epoch {done + 1}", done, total)


def absolute(config: Config) -> Config:
    """Makes the files that a configuration names independent of the current folder."""
    config = dict(config)
    name = config.get("data")
    if isinstance(name, str):
        file = expanded(name)
        if file.exists() and (file.suffix or len(file.parts) > 1):
            config["data"] = str(file.resolve())
    for section in ("model", "objective"):
        path = config.get(section, {}).get("class_path", "")
        place, _, attribute = path.rpartition(":")
        if is_reference(path) and place.endswith(".py"):
            resolved = expanded(place).resolve()
            config[section] = config[section] | {"class_path": f"{resolved}:{attribute}"}
    return config


def _out(arguments: Arguments) -> Path:
    """Returns the run folder: as given, or that of a run's own config.yaml, or runs/NAME."""
    if arguments.out is not None:
        return output_folder(arguments.out)
    config = expanded(arguments.config)
    if (config.parent / "run.json").is_file():
        again = config.parent.with_name(f"{config.resolve().parent.name}-again")
        return config.parent if arguments.resume else again
    return Path("runs") / config.stem


def require_device(settings: TrainingSettings) -> None:
    """Raises a UsageError unless the device of the settings is here."""
    if settings.device is None:
        return
    expected, got = "cpu, or cuda where there is one", repr(settings.device)
    try:
        device = torch.device(settings.device)
    except RuntimeError as error:
        raise UsageError("training.device", expected=expected, got=got) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        do = f"PyTorch sees {torch.cuda.device_count()} CUDA devices here."
        raise UsageError("training.device", expected=expected, got=got, do=do)


def _summary(result: TrainingResult, out: Path, config: Config) -> str:
    last = result.history[-1] if result.history else {}
    numbers = [
        f"{label} {last[key]:.2f} nats"
        for key, label in (("train_bound", "bound"), ("validation_elbo", "held-out ELBO"))
        if last.get(key, float("nan")) == last.get(key)
    ]
    numbers += [
        f"{key.removesuffix('_loss')} {value:.3g}"
        for key, value in last.items()
        if key.endswith("_loss") and value == value
    ]
    epoch = f"epoch {last['epoch']:g}" if last else "no epoch"
    notes = "".join(f"\n{note}" for note in result.notes)
    trust = " --trust" if any(foreign_code(config["model"], "model")) else ""
    return (
        f"{result.status} ({', '.join([epoch, *numbers])}); run folder {out}{notes}\n"
        f"Next: elboscope diagnose {out}{trust}"
    )
