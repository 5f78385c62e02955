"""Hostile run folders: a folder from someone else is data, and nothing in it is ever executed.

``python -m campaign folders`` writes run folders that try to run code, to write outside of
themselves, or to read for ever, and opens each with ``diagnose``, ``sample``, ``check`` and
``train --resume``. Code that ran leaves a mark; so does a write to a file that is not the
folder's own. Both counts must be zero.
"""

from __future__ import annotations

__all__ = ["FOLDERS", "Hostile", "attacked", "main", "written"]

import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import yaml

from elboscope import cli

# Each payload leaves the mark if it is called, imported or unpickled. {mark} is the file's path.
SMALL = {
    "data": "x.npy",
    "model": {"class_path": "mlp_vae", "init_args": {"latent_dim": 2, "hidden": [8]}},
    "training": {"epochs": 1, "tensorboard": False, "batch_size": 20},
}
PAYLOAD = "open({mark!r}, 'w').close()\n"


class Hostile(NamedTuple):
    """A hostile folder: what it tries, and what writes it into the copy of a healthy run."""

    name: str
    write: Callable[[Path, Path], None]


def _section(key: str, value: Callable[[Path, Path], object]) -> Callable[[Path, Path], None]:
    """A value at a dotted place of config.yaml; it gets the folder and the mark."""

    def write(folder: Path, mark: Path) -> None:
        file = folder / "config.yaml"
        config = yaml.safe_load(file.read_text())
        *path, last = key.split(".")
        inner = config
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value(folder, mark)
        file.write_text(yaml.safe_dump(config))

    return write


def _model(path: str, **arguments: str) -> Callable[[Path, Path], None]:
    """The model's class is a callable, and its arguments make it leave the mark."""

    def value(folder: Path, mark: Path) -> object:
        filled = {key: text.format(mark=str(mark)) for key, text in arguments.items()}
        return {"class_path": path, "init_args": filled}

    return _section("model", value)


def _objective(path: str, **arguments: str) -> Callable[[Path, Path], None]:
    def value(folder: Path, mark: Path) -> object:
        filled = {key: text.format(mark=str(mark)) for key, text in arguments.items()}
        return {"class_path": path, "init_args": filled}

    return _section("objective", value)


def _file(reference: str, key: str = "model") -> Callable[[Path, Path], None]:
    """A Python file in the folder, which leaves the mark when it is imported."""

    def write(folder: Path, mark: Path) -> None:
        (folder / "evil.py").write_text(
            PAYLOAD.format(mark=str(mark)) + "def build(*a, **k): ...\n"
        )
        place = reference.format(folder=folder.resolve())
        whole = {"class_path": place, "init_args": {}}
        _section(key, lambda *_: whole)(folder, mark)

    return write


def _argument(key: str, text: str) -> Callable[[Path, Path], None]:
    """A callable where an argument of elboscope's own class stands."""
    whole = {"class_path": text, "init_args": {}}
    plain = _section(f"model.init_args.{key}", lambda *_: text)
    section = _section(f"model.init_args.{key}", lambda *_: whole)
    return plain if text.startswith("plain ") else section


def _raw(text: str) -> Callable[[Path, Path], None]:
    """The text of config.yaml as it is."""

    def write(folder: Path, mark: Path) -> None:
        (folder / "config.yaml").write_text(text.replace("MARK", str(mark)))

    return write


class _Pickled:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.mark, "w")


def _pickle(name: str) -> Callable[[Path, Path], None]:
    def write(folder: Path, mark: Path) -> None:
        import pickle

        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(pickle.dumps(_Pickled(str(mark))))

    return write


def _pickled_array(folder: Path, mark: Path) -> None:
    np.save(folder / "data.npy", np.array([_Pickled(str(mark))], dtype=object), allow_pickle=True)
    _section("data", lambda *_: str(folder.resolve() / "data.npy"))(folder, mark)


def _torch_weights(folder: Path, mark: Path) -> None:
    import torch

    torch.save({"weight": _Pickled(str(mark))}, folder / "model.safetensors")
    mark.unlink(missing_ok=True)  # saving does not call it, but be sure


def _record(key: str, value: object) -> Callable[[Path, Path], None]:
    def write(folder: Path, mark: Path) -> None:
        record = json.loads((folder / "run.json").read_text())
        record[key] = value
        (folder / "run.json").write_text(json.dumps(record))

    return write


def _link(name: str) -> Callable[[Path, Path], None]:
    """A link to a file of the victim's, which must stay what it is."""

    def write(folder: Path, mark: Path) -> None:
        place = folder / name
        place.parent.mkdir(exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(mark.with_name("precious.txt"))

    return write


def _linked_folder(folder: Path, mark: Path) -> None:
    (folder / "report").symlink_to(mark.with_name("elsewhere"), target_is_directory=True)


def _pipe(name: str) -> Callable[[Path, Path], None]:
    """A pipe that no one writes: whoever opens it waits for ever."""

    def write(folder: Path, mark: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return write


def _piped_data(folder: Path, mark: Path) -> None:
    os.mkfifo(folder / "data.npy")
    _section("data", lambda *_: str(folder.resolve() / "data.npy"))(folder, mark)


def _bomb(folder: Path, mark: Path) -> None:
    """A third of a megabyte on the disk, 300 of zeros in memory, and a header that says 10 000."""
    import zipfile

    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000, 1), }".ljust(117)
    with (
        zipfile.ZipFile(folder / "data.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as member,
    ):
        member.write(b"\x93NUMPY\x01\x00\x76\x00" + header + b"\n")
        for _ in range(300):
            member.write(bytes(1 << 20))
    _section("data", lambda *_: str(folder.resolve() / "data.npz"))(folder, mark)


LAUGHS = "\n".join(
    ["data: x.npy", "a: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
).replace("a: &a0", "training: &a0")

FOLDERS = (
    Hostile("model os:system", _model("os:system", command="touch {mark}")),
    Hostile("model subprocess:run", _model("subprocess:getoutput", cmd="touch {mark}")),
    Hostile("model builtins:exec", _model("builtins:exec", source=PAYLOAD)),
    Hostile("model builtins:open", _model("builtins:open", file="{mark}", mode="w")),
    Hostile("model pathlib", _model("pathlib:Path.touch", self="{mark}")),
    Hostile("model shutil", _model("shutil:copyfile", src=__file__, dst="{mark}")),
    Hostile("model runpy", _model("runpy:run_path", path_name=__file__)),
    Hostile("model in elboscope", _model("elboscope.cli.load:import_object", target="this:s")),
    Hostile("model dotted name in elboscope", _model("elboscope.cli.load:sys.exit", status="0")),
    Hostile("model torch.hub", _model("torch.hub:load", repo_or_dir="a/b", model="c")),
    Hostile("model file, absolute", _file("{folder}/evil.py:build")),
    Hostile("model file, without a name", _file("{folder}/evil.py")),
    Hostile("model module", _file("evil:build")),
    Hostile("model prefix", _file("elboscope.models.{folder}/evil.py:build")),
    Hostile("objective os:system", _objective("os:system", command="touch {mark}")),
    Hostile("objective file", _file("{folder}/evil.py:build", "objective")),
    Hostile("objective exec", _objective("builtins:exec", source=PAYLOAD)),
    Hostile("prior os:system", _model("mlp_vae", latent_dim="2", prior="os:system")),
    Hostile("prior section", _file("{folder}/evil.py:build", "model.init_args.prior")),
    Hostile("posterior section", _file("{folder}/evil.py:build", "model.init_args.posterior")),
    Hostile("posterior argument", _argument("posterior", "subprocess:Popen")),
    Hostile("scale dotted", _argument("scale", "os.system")),
    Hostile("likelihood dotted", _argument("likelihood", "plain os.system")),
    Hostile("yaml apply", _raw("model: !!python/object/apply:os.system ['touch MARK']\n")),
    Hostile("yaml new", _raw("model: !!python/object/new:os.system ['touch MARK']\n")),
    Hostile("yaml name", _raw("data: x.npy\nmodel: !!python/name:os.system\n")),
    Hostile("yaml module", _raw("data: x.npy\nmodel: !!python/module:antigravity\n")),
    Hostile("yaml laughs", _raw(LAUGHS)),
    Hostile("yaml itself", _raw("data: x.npy\nmodel: &a {class_path: mlp_vae, init_args: *a}\n")),
    Hostile("pickled weights", _pickle("model.safetensors")),
    Hostile("pickled checkpoint", _pickle("training_state/checkpoint.safetensors")),
    Hostile("pickled run.json", _pickle("run.json")),
    Hostile("pickled data", _pickled_array),
    Hostile("torch weights", _torch_weights),
    Hostile("record objective", _record("objective", "__import__('os').system('touch MARK')")),
    Hostile("record shape", _record("data", {"shape": ["__import__('os')", 64]})),
    Hostile("record huge", _record("data", {"shape": [20, 10**12]})),
    Hostile("record terminal", _record("status", "\x1b]0;owned\x07\x1b[2J")),
    Hostile("link report.html", _link("report/report.html")),
    Hostile("link lock", _link(".lock")),
    Hostile("link report lock", _link("report/.lock")),
    Hostile("link metrics", _link("metrics.csv")),
    Hostile("linked report", _linked_folder),
    Hostile("pipe run.json", _pipe("run.json")),
    Hostile("pipe config.yaml", _pipe("config.yaml")),
    Hostile("pipe metrics.csv", _pipe("metrics.csv")),
    Hostile("pipe weights", _pipe("model.safetensors")),
    Hostile("piped data", _piped_data),
    Hostile("bomb", _bomb),
)
COMMANDS = ("diagnose", "sample", "check", "train")
PRECIOUS = "not to be lost\n"


def _words(command: str, folder: Path, out: Path) -> list[str]:
    if command == "sample":
        return ["sample", str(folder), "--out", f"{out}.png"]
    if command == "train":
        config = str(folder / "config.yaml")
        return ["train", config, "--out", str(folder), "--resume", "--training.epochs", "2"]
    return [command, str(folder)]


@contextlib.contextmanager
def written() -> Iterator[Path]:
    """Yields a new current folder with a healthy run in ``run`` and the victim's own files."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="folders-") as name:
        os.chdir(name)
        try:
            generator = np.random.default_rng(0)
            np.save("x.npy", (generator.random((40, 64)) < 0.3).astype(np.float32))
            Path("small.yaml").write_text(yaml.safe_dump(SMALL))
            with contextlib.redirect_stdout(io.StringIO()):
                assert cli.main(["train", "small.yaml", "--out", "run"]) == 0
            Path("precious.txt").write_text(PRECIOUS)
            Path("elsewhere").mkdir()
            yield Path(name)
        finally:
            os.chdir(before)


def attacked(hostile: Hostile, command: str) -> tuple[str, str]:
    """Opens a hostile folder and returns how that ended, and what was said.

    Args:
        hostile: The folder.
        command: "diagnose", "sample", "check" or "train".

    Returns:
        "executed", "overwritten", "refused" (exit code 2), "opened" (all of it was harmless), or
        "crashed"; and the line on standard error.
    """
    here = Path.cwd()
    mark, folder = here / "mark", here / "hostile"
    mark.unlink(missing_ok=True)
    shutil.copytree("run", folder)
    err = io.StringIO()
    try:
        hostile.write(folder, mark)
        with contextlib.redirect_stdout(err), contextlib.redirect_stderr(err), _short():
            code = cli.main(_words(command, folder, here / "out"))
        how = {0: "opened", 1: "opened", 2: "refused"}.get(code, "crashed")
    except BaseException as error:
        how = f"crashed ({type(error).__name__})"
    finally:
        shutil.rmtree(folder)
    if mark.exists():
        return "executed", err.getvalue()
    kept = Path("precious.txt").read_text() == PRECIOUS and not any(Path("elsewhere").iterdir())
    Path("precious.txt").write_text(PRECIOUS)
    for file in Path("elsewhere").iterdir():
        file.unlink()
    return how if kept else "overwritten", err.getvalue()


@contextlib.contextmanager
def _short() -> Iterator[None]:
    """No diagnosis, but its files; and no wait for ever."""
    import signal

    def late(*_: object) -> None:
        raise TimeoutError("still waiting after 20 s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    try:
        with (
            mock.patch("elboscope.cli.diagnose_command.diagnose", _saved),
            mock.patch("elboscope.cli.diagnose_command.summary", return_value=""),
        ):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class _Saved:
    """A diagnosis that has nothing but its files."""

    findings = estimates = ()

    def save(self, path: Path) -> Path:
        from elboscope.report import replace_with

        return replace_with(path, "a report")

    save_json = save_datatree = save


def _saved(*_: object, **__: object) -> object:
    return _Saved()


def main(seed: int, count: int) -> None:
    """Prints the counts, and each folder that ran code; exits with 1 if there is one.

    Args:
        seed: Random seed of the order of folders and commands.
        count: Attacks, each a folder and a command.
    """
    attacks = [(hostile, command) for hostile in FOLDERS for command in COMMANDS]
    random.Random(seed).shuffle(attacks)
    attacks = [attacks[i % len(attacks)] for i in range(count)]
    total: Counter[str] = Counter()
    with written():
        for hostile, command in attacks:
            how, said = attacked(hostile, command)
            total[how] += 1
            if how not in ("refused", "opened"):
                print(f"  {how}: {command} of a folder with {hostile.name}\n      {said[-300:]}")
    counts = ", ".join(f"{how} {number}" for how, number in sorted(total.items()))
    print(f"{len(attacks)} openings of {len(FOLDERS)} hostile folders: {counts}")
    if set(total) - {"refused", "opened"}:
        sys.exit(1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:] or (0, 4 * len(FOLDERS))))
