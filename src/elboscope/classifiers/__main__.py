"""Trains the packaged classifiers, or lists them: ``python -m elboscope.classifiers --help``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from elboscope.core import InputError
from elboscope.data import Images, load

from .packaged import _packaged, packaged_names, save_classifier
from .training import RECIPES, trained


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        if options.command == "train":
            images = load(RECIPES[options.recipe].data, options.data_dir, not options.no_download)
            _train(options.recipe, images, options.device, Path(options.out))
        else:
            _list()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m elboscope.classifiers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the packaged classifiers and their test errors")
    train = commands.add_parser("train", help="repeat a recipe and write its weights")
    train.add_argument("recipe", choices=sorted(RECIPES))
    train.add_argument("--data-dir", default=None, help="folder with the data set's files")
    train.add_argument("--no-download", action="store_true", help="fail where files are missing")
    train.add_argument("--device", default="cpu")
    train.add_argument("--out", default=".", help="folder for NAME.safetensors")
    return parser


def _train(name: str, images: Images, device: str, out: Path) -> None:
    recipe = RECIPES[name]
    print(f"{images}\n{recipe}")
    network = trained(recipe, images, device=device, say=lambda line: print(line, flush=True))
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.safetensors"
    error = save_classifier(path, network, recipe, images)
    print(f"{path}: test error {error:.2%} with half-precision weights")


def _list() -> None:
    for name in packaged_names():
        classifier = _packaged(name)
        size = sum(p.numel() for p in classifier.network.parameters())
        error = f"test error {classifier.test_error:.2%}"
        print(f"{name}: {classifier.image_shape}, {size} weights, {error}")


if __name__ == "__main__":
    sys.exit(main())
