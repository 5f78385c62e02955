"""``kill -9`` at random moments of diagnose, train, sweep and reproduce; what is left is resumed.

``--diagnose=50 --train=20 --sweep=20 --reproduce=20 --seed=0`` say how many, and when. Half of them
come at a random time of the command, half at a random step of its work, so that a long step does
not take them all. Each finished folder is compared with that of a command that no one disturbed:
every number must have the same bits. Times are left out, since no two runs share them.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TRAINED = """
data: digits
binarisation: {mode: fixed, seed: 0}
model: {class_path: mlp_vae, init_args: {latent_dim: 2, hidden: [32]}}
training: {epochs: %d, tensorboard: false, checkpoint_epochs: 1}
"""
SWEPT = "sweep: {parameters: {model.latent_dim: [2, 3]}, seeds: 2}\n"
CLOCKS = {
    "seconds",
    "samples_per_s",
    "expected_seconds",
    "resumed_at_step",
    "wall_seconds",
    "finished",
}

KILLS = {"diagnose": 50, "train": 20, "sweep": 20, "reproduce": 20}

Digests = dict[str, str]


@dataclass(frozen=True)
class Command:
    """A command, how far it is, and what its folder holds in the end.

    Attributes:
        name: What it is called.
        words: After ``elboscope``, but for ``--out`` and ``--resume``.
        steps: How many steps of its work a folder shows.
        digests: What must be the same, by name.
        resumes: Whether it takes ``--resume``.
    """

    name: str
    words: tuple[str, ...]
    steps: Callable[[Path], int]
    digests: Callable[[Path], Digests]
    resumes: bool = True

    def start(self, out: Path) -> "subprocess.Popen[bytes]":
        """Begins or continues it."""
        begun = out.exists() and (self.name != "reproduce" or (out / "state/asked.json").exists())
        more = ["--resume"] if self.resumes and begun else []
        words = [sys.executable, "-m", "elboscope", *self.words, "--out", str(out), *more]
        with out.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)


@dataclass
class Tally:
    """What was done to a command, and what came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    same: int = 0
    broken: list[str] = field(default_factory=list)


def main(words: Sequence[str]) -> int:
    """Kills, resumes, compares; returns how many folders were not the same."""
    parser = argparse.ArgumentParser(prog="campaign kills")
    for name, kills in KILLS.items():
        parser.add_argument(f"--{name}", type=int, default=kills, metavar="KILLS")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(list(words))
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        place = Path(folder)
        (place / "train.yaml").write_text(TRAINED % 40)
        (place / "sweep.yaml").write_text(TRAINED % 10 + SWEPT)
        _run(["train", str(place / "train.yaml"), "--out", str(place / "run")])
        tallies = {
            command.name: _attack(command, place, kills, rng)
            for command in (_diagnose(place), _train(place), _sweep(place), _reproduce())
            if (kills := getattr(asked, command.name))
        }
    for name, tally in tallies.items():
        print(_line(name, tally), flush=True)
        print("".join(f"  {text}\n" for text in tally.broken), end="")
    return sum(len(tally.broken) for tally in tallies.values())


def _line(name: str, tally: Tally) -> str:
    where = ", ".join(f"{n} {phase}" for phase, n in sorted(tally.kills.items()))
    return (
        f"{name}: {tally.kills.total()} kills ({where}); {tally.same} folders finished with the "
        f"bits of an undisturbed one, {len(tally.broken)} did not"
    )


def _attack(command: Command, place: Path, kills: int, rng: random.Random) -> Tally:
    """Kills a command so many times, in as many folders as it takes."""
    began, whole = time.monotonic(), place / f"{command.name}-whole"
    _finish(command, whole)
    seconds, steps = time.monotonic() - began, command.steps(whole)
    expected, tally, number = command.digests(whole), Tally(), 0
    print(f"{command.name}: {seconds:.0f} s undisturbed, {steps} steps", flush=True)
    while tally.kills.total() < kills or number == 0:
        out = place / f"{command.name}-{number}"
        number += 1
        again = True  # several kills to a folder, and new folders for the early moments
        while again and tally.kills.total() < kills:
            again = _killed(command, out, seconds, steps, rng, tally) and rng.random() < 0.5
        try:
            _finish(command, out)
        except RuntimeError as error:
            tally.broken.append(f"{out.name}: {error}")
            continue
        found = command.digests(out)
        wrong = sorted(k for k in {*expected, *found} if expected.get(k) != found.get(k))
        tally.same += not wrong
        if wrong:
            tally.broken.append(f"{out.name}: other {', '.join(wrong[:5])} ({len(wrong)} in all)")
        shutil.rmtree(out)
    return tally


def _killed(
    command: Command, out: Path, seconds: float, steps: int, rng: random.Random, tally: Tally
) -> bool:
    """Starts it and kills it at a random moment; False if it was over before."""
    child, began, before = command.start(out), time.monotonic(), command.steps(out)
    if rng.random() < 0.5:
        until, wanted = began + rng.uniform(0, seconds), steps + 1
    else:
        until, wanted = began + 10 * seconds, rng.randint(min(before, steps), steps)
    while child.poll() is None and time.monotonic() < until and command.steps(out) < wanted:
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.05 * seconds / max(steps, 1)))
    everyone = rng.random() < 0.5  # or the parent alone, whose children go on
    family = [child.pid, *(_descendants(child.pid) if everyone else [])]
    over = child.poll() is not None
    for pid in family if not over else []:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    over = over or child.wait() != -signal.SIGKILL
    if not over:
        tally.kills[_phase(command.steps(out), steps)] += 1
    return not over


def _phase(done: int, steps: int) -> str:
    if not done:
        return "before the first step"
    third = min(2, 3 * done // (steps + 1))
    return ("in the first third", "in the second third", "in the last third")[third]


def _descendants(pid: int) -> list[int]:
    """Processes that this one started, and theirs."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    parents = {int(line.split()[0]): int(line.split()[1]) for line in listed.stdout.splitlines()}
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        children = [child for child, of in parents.items() if of == parent]
        found += children
        queue += children
    return found


def _finish(command: Command, out: Path) -> None:
    """Lets it come to its end."""
    code = command.start(out).wait()
    if code:
        said = out.with_suffix(".log").read_text().strip().splitlines()
        raise RuntimeError(f"exit code {code}: {said[-1] if said else 'nothing was said'}")


def _run(words: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "elboscope", *words], check=True, capture_output=True)


# What each command leaves, without its clocks.


def _diagnose(place: Path) -> Command:
    def steps(out: Path) -> int:
        kept = len(list((out / "unfinished").glob("*.safetensors")))
        written = [out / name for name in ("report.html", "findings.json", "diagnosis.nc")]
        there = sum(path.exists() for path in written)
        return 40 + there if there and not kept else kept + there

    def digests(out: Path) -> Digests:
        left = {"files": " ".join(sorted(path.name for path in out.iterdir()))}
        findings = _flat(json.loads((out / "findings.json").read_text()))
        return left | findings | _arrays(out / "diagnosis.nc")

    words = ("diagnose", str(place / "run"), "--budget", "quick")
    return Command("diagnose", words, steps, digests)


def _train(place: Path) -> Command:
    words = ("train", str(place / "train.yaml"))
    return Command("train", words, lambda out: _rows(out / "metrics.csv"), _trained)


def _sweep(place: Path) -> Command:
    def steps(out: Path) -> int:
        return sum(_rows(path) for path in out.glob("trial-*/seed-*/metrics.csv"))

    def digests(out: Path) -> Digests:
        runs = {str(run.relative_to(out)): run for run in out.glob("trial-*/seed-*")}
        found = {f"{name} {k}": v for name, run in runs.items() for k, v in _trained(run).items()}
        return found | _flat(json.loads((out / "sweep.json").read_text()))

    return Command("sweep", ("sweep", str(place / "sweep.yaml")), steps, digests, resumes=False)


def _reproduce() -> Command:
    def steps(out: Path) -> int:
        return len([path for path in out.rglob("*") if path.is_file()])

    def digests(out: Path) -> Digests:
        return _flat(json.loads((out / "result.json").read_text()))

    words = ("reproduce", "tighter-bounds-table1", "--scale", "smoke")
    return Command("reproduce", words, steps, digests)


def _trained(out: Path) -> Digests:
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]
    record = _flat(json.loads((out / "run.json").read_text()))
    return record | {
        "metrics": json.dumps(table),
        "weights": hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest(),
        "configuration": (out / "config.yaml").read_text(),
    }


def _rows(path: Path) -> int:
    return max(0, len(path.read_text().splitlines()) - 1) if path.exists() else 0


def _flat(found: object, name: str = "") -> Digests:
    """Every number and text by its path, as the file has it."""
    if isinstance(found, dict):
        entries = [(f"{name}/{k}", v) for k, v in found.items() if k not in CLOCKS]
    elif isinstance(found, list):
        entries = [(f"{name}/{i}", v) for i, v in enumerate(found)]
    else:
        return {name: json.dumps(found)}
    return {k: text for key, value in entries for k, text in _flat(value, key).items()}


def _arrays(path: Path) -> Digests:
    """Every array of a netCDF file."""
    import h5py

    found: Digests = {}

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            values = item[()]
            content = values.tobytes() if hasattr(values, "tobytes") else repr(values).encode()
            if values.dtype != object:
                found[f"array {name}"] = hashlib.sha256(content).hexdigest()

    with h5py.File(path) as file:
        file.visititems(note)
    return found


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
