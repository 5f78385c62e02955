"""What can be typed: subcommands and options, without importing anything that is slow."""

from __future__ import annotations

__all__ = [
    "ALSO_LOCAL",
    "KINDS",
    "SLURM_ONLY",
    "WHO",
    "Arguments",
    "build_parser",
    "parse",
    "positive",
    "whole",
    "worker_options",
]

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from elboscope.reproductions import EXPERIMENTS, SCALES, names_taking

from .terminal import UsageError, did_you_mean

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["_Parser"]


# Numbers that can be typed, and what they are called where one is wrong.

KINDS = {"whole": "a whole number ≥ 0", "positive": "a whole number ≥ 1"}


def whole(text: str) -> int:
    """Returns a whole number ≥ 0 that fits a seed, 64 bits."""
    number = int(text)
    if not 0 <= number < 2**63:
        raise ValueError
    return number


def positive(text: str) -> int:
    """Returns a whole number ≥ 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


# Options of ``elboscope reproduce`` that say who trains its runs, and what each run may take.

WHO = ("--workers", "--executor")
ALSO_LOCAL = ("--cpus", "--gpus")
SLURM_ONLY = ("--memory-gb", "--minutes", "--partition", "--account")


def worker_options(parser: argparse.ArgumentParser) -> None:
    """Adds them, and the hidden one that gives a worker its run."""
    text = f"for {', '.join(names_taking('--workers'))}: each run is a process of its own"
    group = parser.add_argument_group("workers", text)
    group.add_argument("--workers", type=positive, metavar="N", help="runs at a time")
    group.add_argument(
        "--executor", choices=("local", "slurm"), help="here, or one array of jobs (default: local)"
    )
    group.add_argument("--cpus", type=positive, metavar="N", help="threads per run")
    group.add_argument(
        "--gpus", type=whole, metavar="N", help="GPUs per run (default: 1 at the paper's scale)"
    )
    group.add_argument("--memory-gb", type=positive, metavar="GB", help="memory of a SLURM job")
    group.add_argument(
        "--minutes", type=positive, metavar="M", help="after which a job is saved and queued again"
    )
    group.add_argument("--partition", metavar="NAME", help="SLURM partition")
    group.add_argument("--account", metavar="NAME", help="SLURM account")
    group.add_argument("--only-run", type=whole, help=argparse.SUPPRESS)


Arguments = argparse.Namespace
BUDGETS = ("quick", "standard", "thorough")
BINARISATIONS = ("dynamic", "fixed", "threshold", "none")
COMMANDS = ("demo", "train", "sweep", "diagnose", "sample", "reproduce", "check", "data")
MODEL = "a run folder, FILE.py:name or package.module:name"


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises one-line errors with the nearest valid choice."""

    def error(self, message: str) -> NoReturn:
        """Raises a UsageError instead of printing the usage and leaving."""
        raise _usage_error(message, self)


def _usage_error(message: str, parser: argparse.ArgumentParser) -> UsageError:
    choice = re.match(r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)", message)
    if choice:
        name, got, listed = choice.groups()
        known = [word.strip("' ") for word in listed.split(",")]
        do = did_you_mean(got, known)
        return UsageError(name, expected=f"one of {', '.join(known)}", got=repr(got), do=do)
    value = re.match(r"argument (\S+): invalid (\w+) value: '(.*)'", message)
    if value:
        name, kind, got = value.groups()
        return UsageError(name, expected=KINDS.get(kind, kind), got=repr(got))
    missing = re.match(r"the following arguments are required: (.*)", message)
    if missing:
        do = f"See {parser.prog} --help."
        return UsageError(parser.prog, expected=missing.group(1), got="none", do=do)
    name, _, text = message.partition(": ")
    return UsageError(
        name.removeprefix("argument "),
        expected=text.removeprefix("expected ") or "something else",
        got="nothing that fits",
        do=f"See {parser.prog} --help.",
    )


SCALE_TEXT = """\
  smoke  seconds, on the embedded digits: shows that it runs
  cpu    up to half an hour on two cores, on MNIST: fewer epochs than the paper's
  paper  the published schedule, in slices; needs a GPU"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands.

    Example:
        >>> build_parser().parse_args(["sample", "run", "--out", "a.png"]).num
        64
    """
    parser = _Parser(
        prog="elboscope",
        description="Train VAEs and find out what is wrong with them, in nats.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=False, parser_class=_Parser
    )
    for add in (_demo, _train, _sweep, _diagnose, _sample, _reproduce, _check, _data):
        added = add(commands)
        added.allow_abbrev = False
        added.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks"
        )
    return parser


def _demo(commands: Commands) -> _Parser:
    text = "Train a small VAE on scikit-learn's digits, diagnose it, write a report."
    parser = commands.add_parser(
        "demo", help="train and diagnose on embedded data", description=text
    )
    parser.add_argument("--out", default="elboscope-demo", metavar="DIR", help="run folder")
    parser.add_argument("--seed", type=whole, default=0)
    return parser


def _train(commands: Commands) -> _Parser:
    parser = commands.add_parser(
        "train",
        help="train a model from a YAML file into a run folder",
        description="Train a model from a YAML file into a run folder. "
        "Every key can be overridden: --training.epochs 10 --model.latent_dim 20",
    )
    parser.add_argument("config", metavar="CONFIG.yaml")
    parser.add_argument("--out", metavar="RUN", help="run folder (default: runs/<config's name>)")
    parser.add_argument("--resume", action="store_true", help="continue the run in the folder")
    _trust(parser)
    _data_dir(parser)
    return parser


def _sweep(commands: Commands) -> _Parser:
    parser = commands.add_parser(
        "sweep",
        help="train many runs over hyper-parameters and seeds",
        description="Train every run of a YAML file with a sweep: section. "
        "The same command continues after an interruption: what has ended is not repeated.",
    )
    parser.add_argument("config", metavar="CONFIG.yaml")
    parser.add_argument("--out", metavar="DIR", help="default: sweep.folder, sweeps/<name>")
    parser.add_argument("--workers", type=positive, help="runs at a time (default: sweep.workers)")
    parser.add_argument("--dry-run", action="store_true", help="print the runs and exit")
    parser.add_argument("--retry-failed", action="store_true", help="begin failed runs again")
    _data_dir(parser)
    return parser


def _diagnose(commands: Commands) -> _Parser:
    parser = commands.add_parser(
        "diagnose",
        help="find out what is wrong with a model",
        description="Estimate log p(x), ELBO, mutual information … and say what is wrong.",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    _data_options(parser)
    parser.add_argument("--train-data", metavar="NAME|FILE", help="training data, for overfitting")
    parser.add_argument("--budget", choices=BUDGETS, default="standard")
    parser.add_argument("--seed", type=whole, default=0)
    parser.add_argument("--out", metavar="DIR", help="where the report goes")
    _trust(parser)
    parser.add_argument(
        "--resume", action="store_true", help="go on with what an interrupted one left there"
    )
    return parser


def _sample(commands: Commands) -> _Parser:
    text = "Draw z from the prior and show the decoder's means as one picture."
    parser = commands.add_parser("sample", help="a picture of samples", description=text)
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("--out", required=True, metavar="PICTURE.png")
    parser.add_argument("--num", type=positive, default=64, help="number of samples")
    parser.add_argument("--seed", type=whole, default=0)
    _trust(parser)
    return parser


def _reproduce(commands: Commands) -> _Parser:
    listed = "\n".join(f"  {entry.name:<22} {entry.summary}" for entry in EXPERIMENTS)
    names = tuple(entry.name for entry in EXPERIMENTS)
    parser = commands.add_parser(
        "reproduce",
        help="a published table or figure, claim by claim",
        description="Compute a published table or figure: our numbers beside the paper's.",
        epilog=f"names:\n{listed}\n\nscales:\n{SCALE_TEXT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", choices=names, help="see below")
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="default: cpu")
    parser.add_argument("--out", metavar="DIR", help="default: reproductions/NAME-SCALE")
    parser.add_argument("--seed", type=whole, default=0)
    parser.add_argument("--resume", action="store_true", help="continue what is in the folder")
    parser.add_argument(
        "--slice-seconds",
        type=positive,
        metavar="S",
        help="save and stop after S seconds (default: 480 at the paper's scale, else never)",
    )
    parser.add_argument("--omniglot", metavar="FILE", help="chardata.mat of Burda et al.")
    parser.add_argument(
        "--columns",
        metavar="A,B",
        help="columns of inference-suboptimality-table1, such as mnist-regular-ffg (default: all)",
    )
    _data_dir(parser)
    worker_options(parser)
    return parser


def _check(commands: Commands) -> _Parser:
    text = "Check a model against the contract: shapes, densities, leaks between datapoints."
    parser = commands.add_parser("check", help="the conformance check", description=text)
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    _data_options(parser)
    _trust(parser)
    return parser


def _data(commands: Commands) -> _Parser:
    text = "List the data sets, where they are, and whether their checksums hold."
    parser = commands.add_parser("data", help="what data are available", description=text)
    _data_dir(parser)
    return parser


def _data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="NAME|FILE", help="evaluation data")
    parser.add_argument(
        "--binarise", choices=BINARISATIONS, help="default: as trained; none for your own models"
    )
    _data_dir(parser)


def _trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="import the code that a run folder's config.yaml names (default: refuse it)",
    )


def _data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="folder of data sets")


def parse(argv: Sequence[str]) -> Arguments:
    """Parses a command line; ``overrides`` are the pairs ``--a.b value`` of ``train``.

    Raises:
        UsageError: An unknown command or option, a missing or impossible value.

    Example:
        >>> parse(["train", "a.yaml", "--training.epochs=3", "--model", "mlp_vae"]).overrides
        [('training.epochs', '3'), ('model', 'mlp_vae')]
    """
    words: list[str] = list(argv)
    overrides: list[tuple[str, str]] = []
    if "train" in words[:2]:  # --debug may come before
        words, overrides = _without_overrides(words)
    arguments, rest = build_parser().parse_known_args(words)
    if rest:
        raise _unknown_option(rest[0], arguments.command)
    arguments.overrides = overrides
    return arguments


def _unknown_option(word: str, command: str | None) -> UsageError:
    known = OPTIONS.get(command, ())
    listed = ", ".join(known)
    where = f"elboscope {command}" if command else "elboscope"
    expected = f"one of the options of {where} ({listed})"
    return UsageError(
        word.partition("=")[0],
        expected=expected if word.startswith("-") else f"no further argument of {where}",
        got="an unknown option" if word.startswith("-") else repr(word),
        do=did_you_mean(word.partition("=")[0], known) if word.startswith("-") else "",
    )


OPTIONS: dict[str | None, tuple[str, ...]] = {
    None: ("--help", "--version", "--debug"),
    "demo": ("--out", "--seed"),
    "train": ("--out", "--resume", "--trust", "--data-dir"),
    "sweep": ("--out", "--workers", "--dry-run", "--retry-failed", "--data-dir"),
    "diagnose": ("--data", "--train-data", "--budget", "--binarise", "--seed", "--out",
                 "--resume", "--trust", "--data-dir"),
    "sample": ("--out", "--num", "--seed", "--trust"),
    "reproduce": ("--scale", "--out", "--seed", "--resume", "--slice-seconds", "--omniglot",
                  "--columns", "--data-dir", *WHO, *ALSO_LOCAL, *SLURM_ONLY),
    "check": ("--data", "--binarise", "--trust", "--data-dir"),
    "data": ("--data-dir",),
}  # fmt: skip


def _without_overrides(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Splits off every ``--key value`` that is no option of ``train``."""
    own = (*OPTIONS[None], *OPTIONS["train"])
    kept, pairs, queue = [], [], list(words)
    while queue:
        word = queue.pop(0)
        key, equals, value = word.partition("=")
        if not word.startswith("--") or key in own:
            kept.append(word)
            continue
        if not equals:
            if not queue or queue[0].startswith("--"):
                do = did_you_mean(word, own) or "Keys of the configuration: --training.epochs 10"
                raise UsageError(word, expected="a value after it", got="none", do=do)
            value = queue.pop(0)
        pairs.append((key[2:], value))
    return kept, pairs
