"""Generated mistakes: whatever one types or passes, the message must blame the right one.

``python -m campaign mistakes`` runs 3000 mistaken commands through the command line and 500
mistaken calls of ``from_modules``, ``train`` and ``check_model``, and counts how they ended:

- *user error*: exit code 2, or an ``InputError``: one line that says what to do;
- *accepted*: what was generated is allowed after all;
- *internal error*: exit code 70, by which the program blames itself;
- *bare Python error*: anything else that escaped.

The last two must be zero. What costs minutes (a diagnosis, a reproduction) is cut off where all
mistakes have been looked for.
"""

from __future__ import annotations

__all__ = ["Ending", "calls", "commands", "main", "prepared", "run_command"]

import contextlib
import importlib
import io
import os
import random
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal

import elboscope as es
from elboscope import cli, training
from elboscope.core import InputError
from elboscope.data import Binarisation

USER, ACCEPTED = "user error", "accepted"
INTERNAL, BARE = "internal error", "bare Python error"
FAULTS = (INTERNAL, BARE)


class Ending(NamedTuple):
    """How a mistake ended, and what was said."""

    kind: str
    mistake: str
    how: str
    said: str


# Values that no one means, as YAML has them: of the wrong kind, out of range, or no value at all.
YAML = (
    "null", "~", "[]", "{}", "''", "' '", "-1", "0", "1", "2.5", "-0.0", ".nan", ".inf", "-.inf",
    "1e400", "1e-400", "true", "no", "text", "'3'", "[1, 2]", "[0.9]", "[[1]]", "[null]", "['a']",
    "{a: 1}", "{1: 2}", "{null: null}", "{class_path: null}", "{class_path: mlp_vae}",
    "{class_path: RealNVP, init_args: null}", "{class_path: RealNVP, init_args: [1]}",
    "{class_path: RealNVP, init_args: {hidden: null}}",
    "{class_path: RealNVP, init_args: {num_steps: 0}}", "{class_path: MAF, init_args: {hidden: -3}}",
    "{class_path: VampPrior, init_args: {low: .nan}}",
    "{class_path: MixturePrior, init_args: {num_components: 0}}", "2020-01-01", "2020-13-45",
    "12:30:99", "0x10", "0o9", "1_000", "1__0", "1.2.3", "!!binary aGk=", "!!binary '?'", "!!set {a}",
    "!!int x", "!!float ''", "!!int ''", "!!timestamp x", "!!python/object/apply:os.getcwd []",
    "!!python/name:os.system", "&a [*a]", "&a {b: *a}", "*a", "[", "}", "'", "\"\\ud800\"", "\t", "@x",
    "`x`", "%x", "|", "? a", "- a", "a: b: c", "=", "<<", "{<<: 3}", "{<<: *a}", "${HOME}", "$HOME",
    "~nobody", "~nobody/x.npy", "/", ".", "..", "/dev/null", "/dev/zero", "x.npy/y", "\0", "a\nb",
    "mlp_va", "os:system", "mine.py:", ":x", "a:b:c", "..:x", "mine.py:nothing", "json:loads",
    "builtins:int", "builtins:None", "builtins:object", "math:pi", "os:environ", "ELBO", "AAE",
    "GANGame", "AVB", "conv_vae", "pixelcnn_vae", "mlp_gan", "dcgan", "gaussian", "categorical",
    "laplace", "fixed", "threshold", "cuda:7", "meta", "mps", "xpu", "cpu:3", "burda", "digits",
    "9" * 20, "9" * 400, "9" * 5000, "-" + "9" * 30, "[" * 40 + "]" * 40, "[" * 2000 + "]" * 2000,
    "ü", "日本", "\u202e", "\x1b[31m", "x" * 5000,
)  # fmt: skip
SETTINGS = (
    *("epochs", "batch_size", "learning_rate", "rate_schedule", "betas", "eps", "max_grad_norm"),
    *("aggressive_epochs", "seed", "validation_fraction", "validate_every", "validation_samples"),
    *("patience", "checkpoint_seconds", "checkpoint_epochs", "device", "compile", "tensorboard"),
)
ARGUMENTS = (
    *("latent_dim", "hidden", "nonlinearity", "likelihood", "scale", "levels", "posterior"),
    *("prior", "channels", "posterior.init_args.hidden", "prior.class_path"),
)
KEYS = (
    *(f"training.{name}" for name in SETTINGS),
    *(f"model.{name}" for name in ARGUMENTS),
    *("data", "model", "objective", "training", "binarisation", "model.class_path"),
    *("objective.class_path", "model.init_args", "objective.init_args", "binarisation.mode"),
    *("binarisation.seed", "binarisation.threshold", "objective.analytic_kl", "objective.beta"),
)
ODD_KEYS = (
    *("", ".", "..", "training.", ".epochs", "training..epochs", "training.epochs.x", "data.x"),
    *("model.init_args.", "model.class_path.x", "model.hidden.0", "a", "training.épochs", "-"),
    *("training.betas.0", "binarisation.mode.x", "objective.init_args.x.y.z", "x=", "sweep"),
)
PATHS = (
    *("", " ", ".", "..", "/", "//", "~", "~nobody", "~nobody/x", "/dev/null", "/dev/full", "a\0b"),
    *(
        "\udcff",
        "x.npy",
        "x.npy/y",
        "run",
        "run/config.yaml",
        "loop",
        "loop/x",
        "x" * 300,
        "no/such",
    ),
    *(
        "x" * 300 + "/y",
        "mine.py",
        "mine.py:",
        ":model",
        "small.yaml",
        "-",
        "/proc/1/mem",
        "ü",
        "a b",
    ),
    *("/proc/nothing", "/sys/x", "empty", "pipe", "pictures", "a\nb", "*.npy", "file:///x.npy"),
    *("http://x/y.npy", "C:\\x.npy", "locked.npz", "bad.gz", "digits", "mnist", "run/run.json"),
)
NUMBERS = (
    *(
        "-1",
        "0",
        "1.5",
        "",
        " ",
        "x",
        "1e3",
        "0x10",
        "٣",
        "²",
        "1_0",
        "nan",
        "inf",
        "-0",
        "+1",
        "१",
    ),
    *("9" * 19, "9" * 30, "9" * 5000, "1 2", "\0", "None", "true", "--out", "½"),
)
REFERENCES = (
    *("mine.py:model", "mine.py:", "mine.py", ":model", "mine.py:a.b", "mine.py:__name__", "a:b"),
    *("mine.py:model.net", "mine.py:Model", "mine.py:Model.decode", "os:system", "os:path", "sys:exit"),
    *("builtins:exit", "builtins:int", "builtins:object", "..:x", ".x:y", "a..b:c", "a b:c", "a\0b:c"),
    *("builtins:None", "builtins:print", "elboscope:from_modules", "elboscope.models:mlp_vae", "x:"),
    *("elboscope:nothing", "elboscope.models:LinearGaussian", "mine.py:é", "folder.py:x", "1:2", "mine.py::"),
    *("mine.py:.", "mine.py:model.", "os.:x", "os.path:join", "this:s", "antigravity:x", "torch:nn.Linear"),
)  # fmt: skip

# What a method of a user's model may do instead of its job.
BODIES = (
    *("return None", "return 3", "return 'x'", "return z", "return torch.zeros(3)", "raise ValueError('v')"),
    *("raise ValueError()", "raise KeyError('k')", "raise SystemExit(0)", "sys.exit()", "sys.exit('s')"),
    *("assert False", "1 / 0", "x.nothing", "nothing", "raise NotImplementedError", "raise MemoryError"),
    *("raise RecursionError", "return self.decode(z)", "raise StopIteration", "raise OSError(2, 'o', 'f')"),
    *("raise Odd()", "return Normal(z, -1.0)", "return Normal(z, 1.0)", "return Normal", "raise EOFError"),
    *("return Independent(Normal(z, float('nan'), validate_args=False), 1)", "raise UnicodeError('u')"),
    *("return Independent(Normal(z.double(), 1.0), 1)", "return Independent(Normal(z[:1], 1.0), 1)"),
    *("return Independent(Normal(z, 1.0), z.ndim)", "return Independent(Bernoulli(logits=z), 1)"),
    *("return Independent(Normal(z.sum(-1, keepdim=True), 1.0), 1)", "yield z", "open('no-such-file')"),
    *("return Independent(Normal(torch.randn_like(z), 1.0), 1)", "return self", "return lambda: z", "raise Warn"),
    *("return Independent(Normal(z * 1e30 * 1e30, 1.0, validate_args=False), 1)", "import nothing_there"),
    *("torch.zeros(3) @ torch.zeros(4)", "torch.zeros(2)[5]", "return Independent(Normal(z.mean(), 1.0), 0)"),
    *("return Cauchy(z)", "return {'mu': z}", "raise Group"),
)  # fmt: skip
GOOD = {
    "module": "",
    "init": "self.net, self.back = nn.Linear(64, 4), nn.Linear(2, 64)",
    "prior": "return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)",
    "encode": "m, s = self.net(x).chunk(2, -1); return Independent(Normal(m, s.exp()), 1)",
    "decode": "return Independent(Bernoulli(logits=self.back(z)), 1)",
    "model": "model = Model()",
}
TEMPLATE = """
import os, sys, torch
from torch import nn
from torch.distributions import Bernoulli, Cauchy, Independent, Normal
class Odd(Exception):
    def __str__(self): raise ValueError("no text")
class Group(ExceptionGroup):
    def __new__(cls): return super().__new__(cls, "several", [ValueError("a"), KeyError("b")])
class Warn(UserWarning): pass
x = z = torch.zeros(3, 2)
def module():
    {module}
    pass
module()
class Model({base}):
    def __init__(self{arguments}):
        {super}
        {init}
    def prior(self{extra}):
        {prior}
    def encode(self, x):
        z = x[:, :2]
        {encode}
    def decode(self, z):
        x = z
        {decode}
{model}
"""
MODELS = (
    *("model = Model", "model = None", "model = Model().net", "model = lambda: 1 / 0", "model = [Model()]"),
    *("model = Model().double()", "model = Model().half()", "model = Model().to('meta')", "del Model"),
    *("model = type('M', (), {'prior': 1, 'decode': 2, 'encode': 3})()", "model = Model; model()", "model = 3"),
    *("def model(size): return Model()", "def model(): sys.exit(0)", "def model(): return None", "mode = 1"),
    *("class model:\n    def __getattr__(self, name): raise ValueError(name)\nmodel = model()", "model = x"),
    *("class Meta(type):\n    def __call__(cls): sys.exit(3)\nclass model(metaclass=Meta): pass", "model = sys"),
    *("model = Model(); model.net.weight.data.fill_(float('nan'))", "model = Model().train()", "import mine"),
    *("model = Model(); model.encode = None", "model = torch.jit.script(Model().net)", "model = property(len)"),
)  # fmt: skip


def user_file(rng: random.Random) -> str:
    """Returns the text of a model's file with one or two things wrong."""
    parts = dict(GOOD) | {
        "base": "nn.Module",
        "arguments": "",
        "super": "super().__init__()",
        "extra": "",
    }
    for _ in range(rng.choice((1, 1, 1, 2))):
        where = rng.choice((*GOOD, "prior", "encode", "decode", "model", "base"))
        if where == "base":
            name, text = rng.choice((("base", "object"), ("super", "pass"), ("arguments", ", size"),
                                     ("extra", ", x"), ("base", "dict"), ("base", "Exception")))  # fmt: skip
            parts[name] = text
        else:
            parts[where] = rng.choice(MODELS if where == "model" else BODIES)
    text = TEMPLATE.format(**parts)
    return _damaged_text(rng, text) if rng.random() < 0.05 else text


def _damaged_text(rng: random.Random, text: str) -> str:
    cut = rng.randrange(len(text))
    return rng.choice((text[:cut], text[:cut] + "\t)" + text[cut:], text[:cut] + "\x00", "é = é +"))


def _damaged(rng: random.Random, data: bytes) -> bytes:
    """A file cut short, with bytes changed, of another kind, or with nothing in it."""
    kind = rng.randrange(6)
    if kind == 0:
        return data[: rng.randrange(len(data) + 1)]
    if kind == 1:
        changed = bytearray(data or b"x")
        for _ in range(rng.randint(1, 20)):
            changed[rng.randrange(min(len(changed), 400))] = rng.randrange(256)
        return bytes(changed)
    return rng.choice((b"", b"\0" * 100, b"\xff\xfe\x00", data + data, b"[]", b"null", b"{}", b"3",
                       b"\x1f\x8b\x08", b"PK\x03\x04", b"\x93NUMPY", rng.randbytes(64)))  # fmt: skip


# The kinds of commands. Each returns the words after ``elboscope``, having written what they name.
# The folder is the current one; ``n`` makes names of outputs fresh.

Kind = Callable[[random.Random, int], list[str]]


def _override(rng: random.Random, n: int) -> list[str]:
    key = rng.choice(KEYS) if rng.random() < 0.9 else rng.choice(ODD_KEYS)
    more = ["--model", rng.choice(("conv_vae", "mlp_gan", "mlp_hybrid", "pixelcnn_vae", "mlp_avb"))]
    words = ["train", "small.yaml", "--out", f"out/{n}", f"--{key}={rng.choice(YAML)}"]
    return words + (more if rng.random() < 0.2 else [])


def _yaml(rng: random.Random, n: int) -> list[str]:
    lines = [f"{key}: {rng.choice(YAML)}" for key in rng.sample(KEYS[-14:-8], rng.randint(0, 3))]
    whole = ["data: x.npy", "model: {class_path: mlp_vae, init_args: {latent_dim: 2}}"]
    nested = f"training: {{{rng.choice(SETTINGS)}: {rng.choice(YAML)}, epochs: 1}}"
    text = "\n".join(rng.choice((lines, [*whole, *lines], [*whole, nested], [*lines, nested])))
    data = text.encode("utf-8", "surrogatepass")
    Path("bad.yaml").write_bytes(_damaged(rng, data) if rng.random() < 0.3 else data)
    return ["train", "bad.yaml", "--out", f"out/{n}"]


def _sweep(rng: random.Random, n: int) -> list[str]:
    from elboscope.cli.sweep_config import KEYS as KNOWN

    if rng.random() < 0.5:
        setting = f"{rng.choice(KNOWN)}: {rng.choice(YAML)}"
        text = f"sweep: {{parameters: {{model.latent_dim: [1, 2]}}, {setting}}}"
    else:
        inner = rng.choice(
            ("low: {}", "low: 1, high: {}", "low: 1, high: 2, log: {}", "points: {}")
        )
        value = rng.choice((rng.choice(YAML), "{" + inner.format(rng.choice(YAML)) + "}"))
        text = f"sweep: {{parameters: {{{rng.choice(KEYS)}: {value}}}}}"
    base = "data: x.npy\nmodel: {class_path: mlp_vae, init_args: {latent_dim: 2}}\n"
    Path("sweep.yaml").write_bytes((base + text).encode("utf-8", "surrogatepass"))
    return ["sweep", "sweep.yaml", "--dry-run", "--out", f"out/{n}"]


def _words(rng: random.Random, n: int) -> list[str]:
    """Commands and options at random, most of which do not exist or do not go together."""
    from elboscope.cli.parser import COMMANDS, OPTIONS

    command = rng.choice((*COMMANDS, "trian", "", "-", "--", "Train", "train ", "ü"))
    options = [option for known in OPTIONS.values() for option in known]
    words = [command] if rng.random() < 0.95 else []
    for _ in range(rng.randint(1, 4)):
        option = rng.choice(options)
        option = option if rng.random() < 0.8 else option[: rng.randint(1, len(option))]
        words.append(option)
        if rng.random() < 0.7:
            words.append(rng.choice((*PATHS, *NUMBERS)))
    return [word for word in words if word not in ("--help", "--h", "-h", "--debug")] + [
        "--nonsense"
    ]


def _path(rng: random.Random, n: int) -> list[str]:
    """A path in each place that takes one."""
    path = rng.choice(PATHS)
    commands = (
        ["train", path], ["train", "small.yaml", "--out", path], ["train", path, "--resume"],
        ["train", "small.yaml", "--data", path, "--out", f"out/{n}"], ["sweep", path, "--dry-run"],
        ["train", "small.yaml", "--out", path, "--resume"], ["diagnose", path],
        ["train", "small.yaml", "--data", "mnist", "--data-dir", path, "--out", f"out/{n}"],
        ["diagnose", path, "--data", "x.npy"], ["diagnose", "run", "--data", path, "--out", f"out/{n}"],
        ["diagnose", "run", "--out", path], ["diagnose", "run", "--train-data", path],
        ["sample", path, "--out", f"out/{n}.png"], ["sample", "run", "--out", path],
        ["sample", "run", "--out", f"{path}.png"], ["sample", "run", "--out", f"{path}/a.png"],
        ["check", path, "--data", "x.npy"], ["check", "run", "--data", path],
        ["check", "run", "--data", "cifar10", "--data-dir", path], ["data", "--data-dir", path],
        ["reproduce", "sandwich", "--out", path], ["demo", "--out", path],
    )  # fmt: skip
    return list(rng.choice(commands))


def _number(rng: random.Random, n: int) -> list[str]:
    commands = (
        ["sample", "run", "--out", f"out/{n}.png", "--num"], ["sample", "run", "--out", "a.png", "--seed"],
        ["demo", "--seed"], ["diagnose", "run", "--seed"], ["diagnose", "run", "--budget"],
        ["diagnose", "run", "--binarise"], ["sweep", "sweep.yaml", "--workers"],
        ["reproduce", "iwae-table1", "--slice-seconds"], ["reproduce", "iwae-table1", "--workers"],
        ["reproduce", "iwae-table1", "--scale"], ["reproduce", "iwae-table1", "--columns"],
    )  # fmt: skip
    return [*rng.choice(commands), rng.choice(NUMBERS)]


def _reference(rng: random.Random, n: int) -> list[str]:
    Path("mine.py").write_text(TEMPLATE.format(**GOOD, base="nn.Module", arguments="",
                                               super="super().__init__()", extra=""))  # fmt: skip
    name = rng.choice(REFERENCES)
    commands = (
        ["check", name, "--data", "x.npy"], ["diagnose", name, "--data", "x.npy", "--out", f"out/{n}"],
        ["sample", name, "--out", f"out/{n}.png"], ["train", "small.yaml", "--model", name, "--out", f"out/{n}"],
        ["train", "small.yaml", "--objective", name, "--out", f"out/{n}"],
        ["train", "small.yaml", f"--model.posterior={name}", "--out", f"out/{n}"],
    )  # fmt: skip
    return list(rng.choice(commands))


def _broken_model(rng: random.Random, n: int) -> list[str]:
    name = f"user{n}.py"
    Path(name).write_text(user_file(rng))
    commands = (
        ["check", f"{name}:model", "--data", "x.npy"], ["sample", f"{name}:model", "--out", f"out/{n}.png"],
        ["diagnose", f"{name}:model", "--data", "x.npy", "--out", f"out/{n}"],
        ["train", "small.yaml", "--model", f"{name}:model", "--out", f"out/{n}"],
        ["train", "small.yaml", "--model", f"{name}:Model", "--out", f"out/{n}"], ["check", name],
    )  # fmt: skip
    return list(rng.choice(commands))


def _run_folder(rng: random.Random, n: int) -> list[str]:
    """A run whose files are damaged, missing, folders, or hold values of another kind."""
    import shutil

    folder = Path(f"out/run{n}")
    shutil.copytree("run", folder)
    for _ in range(rng.choice((1, 1, 2))):
        file = folder / rng.choice(("config.yaml", "run.json", "metrics.csv", "model.safetensors",
                                    "training_state/checkpoint.safetensors", "run.json"))  # fmt: skip
        data = file.read_bytes() if file.is_file() else b""
        _spoil(rng, file, data)
    commands = (
        ["diagnose", str(folder)], ["sample", str(folder), "--out", f"out/{n}.png"], ["check", str(folder)],
        ["train", f"{folder}/config.yaml", "--out", str(folder), "--resume", "--training.epochs", "3"],
        ["check", str(folder), "--data", "x.npy"],
    )  # fmt: skip
    return list(rng.choice(commands))


def _spoil(rng: random.Random, file: Path, data: bytes) -> None:
    kind = rng.randrange(5)
    if kind == 0:
        file.unlink(missing_ok=True)
        if rng.random() < 0.5:
            file.mkdir(exist_ok=True)
        return
    if not file.is_file():
        return
    if kind == 1 and file.name == "config.yaml":
        text = data.decode()
        old = rng.choice([line for line in text.splitlines() if ": " in line] or [text])
        data = text.replace(old, f"{old.partition(':')[0]}: {rng.choice(YAML)}").encode(
            "utf-8", "replace"
        )
    elif kind <= 2 and file.name == "run.json":
        data = _other_values(rng, data)
    elif kind == 1 and file.name == "metrics.csv":
        extra = rng.choice(
            (b"a,b,c\n", b"1,2\n", b"\n\n", b"1" * 50 + b"\n", b'"\n', b"nan,inf,-inf\n")
        )
        data += extra
    else:
        data = _damaged(rng, data)
    file.write_bytes(data)


def _other_values(rng: random.Random, data: bytes) -> bytes:
    import json

    odd = (
        None,
        [],
        {},
        "x",
        -1,
        0,
        [1, "a"],
        [0, 0],
        [10**9, 10**9],
        1e400,
        True,
        [[1]],
        {"shape": None},
    )
    try:
        record = json.loads(data)
        key = rng.choice(
            ("data", "settings", "status", "objective", "shape", "binarisation", "format")
        )
        if key == "shape":
            record["data"]["shape"] = rng.choice(odd)
        elif rng.random() < 0.3:
            record.pop(key, None)
        else:
            record[key] = rng.choice(odd)
    except (ValueError, TypeError, KeyError, AttributeError):
        return b"[" * rng.choice((10, 100_000))
    return json.dumps(record).encode()


def _data_file(rng: random.Random, n: int) -> list[str]:
    name = rng.choice((_npy, _npy, _npz, _picture))(rng, n)
    commands = (
        ["check", "run", "--data", name], ["diagnose", "run", "--data", name, "--out", f"out/{n}"],
        ["train", "small.yaml", "--data", name, "--out", f"out/{n}"],
        ["diagnose", "run", "--train-data", name, "--out", f"out/{n}"],
    )  # fmt: skip
    return list(rng.choice(commands))


def _array(rng: random.Random) -> np.ndarray:
    shape = rng.choice(
        ((20, 64), (20, 1, 8, 8), (64,), (), (0, 64), (20, 0), (1, 64), (20, 8, 8, 1), (2,) * 20)
    )
    kind = rng.choice(
        ("f4", "f8", "f2", "u1", "i8", "b1", "c8", "U3", "S3", "O", "M8[s]", "m8[s]", "f4,i4", "g")
    )
    if kind == "O":
        return np.full(shape, None, dtype=object)
    array = np.ones(shape).astype(np.float64)
    array = array * rng.choice((1.0, 0.5, np.nan, np.inf, -1.0, 1e30))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return array.astype(kind)
        except (ValueError, TypeError):
            return np.zeros(shape, dtype=kind)


def _npy(rng: random.Random, n: int) -> str:
    stream = io.BytesIO()
    np.save(stream, _array(rng), allow_pickle=True)
    data = stream.getvalue()
    if rng.random() < 0.3:
        data = _damaged(rng, data)
    elif rng.random() < 0.2:
        header = rng.choice(("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 64), }",
                             "{'descr': '<f4', 'fortran_order': False, 'shape': (-5,), }", "{", "()",
                             "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", "9" * 60))  # fmt: skip
        text = header.encode().ljust(118) + b"\n"
        data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 50
    Path(f"out/{n}.npy").write_bytes(data)
    return f"out/{n}.npy"


def _npz(rng: random.Random, n: int) -> str:
    import zipfile

    names = rng.sample(
        ("x", "train", "test", "x_train", "x_test", "y", "arr_0", "a/b", "é"), rng.randint(0, 3)
    )
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: _array(rng) for name in names})
    if rng.random() < 0.2:
        with zipfile.ZipFile(stream, "a") as archive:
            archive.writestr(rng.choice(("x.txt", "x.npy", "../x.npy", "z")), rng.randbytes(30))
    data = stream.getvalue()
    Path(f"out/{n}.npz").write_bytes(_damaged(rng, data) if rng.random() < 0.3 else data)
    return f"out/{n}.npz"


def _picture(rng: random.Random, n: int) -> str:
    from PIL import Image

    folder = Path(f"out/pictures{n}")
    folder.mkdir()
    for i in range(rng.randint(0, 3)):
        mode = rng.choice(("L", "RGB", "RGBA", "1", "P", "I", "F", "CMYK", "LA"))
        side = rng.choice((8, 8, 8, 9))
        stream = io.BytesIO()
        kind = "TIFF" if mode in ("F", "CMYK", "I") else "PNG"
        Image.new(mode, (side, side)).save(stream, kind)
        data = stream.getvalue()
        suffix = rng.choice((".png", ".jpg", ".PNG", ".gif", ".txt"))
        (folder / f"{i}{suffix}").write_bytes(_damaged(rng, data) if rng.random() < 0.4 else data)
    return str(folder)


def _full_disk(rng: random.Random, n: int) -> list[str]:
    """The limit on a file's size stands for a full disk: every writer meets it alike."""
    commands = (
        ["train", "small.yaml", "--out", f"out/{n}"], ["sample", "run", "--out", f"out/{n}.png"],
        ["train", "small.yaml", "--training.tensorboard=true", "--out", f"out/{n}"],
        ["train", "run/config.yaml", "--out", f"out/{n}"],
    )  # fmt: skip
    return ["FULL", str(rng.choice((0, 10, 300, 1000, 3000, 9000, 20_000))), *rng.choice(commands)]


KINDS: tuple[tuple[Kind, int], ...] = (
    (_override, 8), (_yaml, 4), (_sweep, 2), (_words, 2), (_path, 4), (_number, 1), (_reference, 2),
    (_broken_model, 8), (_run_folder, 5), (_data_file, 4), (_full_disk, 1),
)  # fmt: skip

SMALL = """
data: x.npy
model: {class_path: mlp_vae, init_args: {latent_dim: 2, hidden: [8]}}
training: {epochs: 1, tensorboard: false, batch_size: 20}
"""


@contextlib.contextmanager
def prepared() -> Iterator[Path]:
    """Yields a new current folder with what the commands name, and what is slow cut off."""
    before = Path.cwd()
    importlib.import_module("elboscope.cli.demo_command")
    with tempfile.TemporaryDirectory(prefix="mistakes-") as name, contextlib.ExitStack() as stack:
        os.chdir(name)
        stack.callback(os.chdir, before)
        _write_files(Path(name))
        assert run_command(["train", "small.yaml", "--out", "run"]).kind == ACCEPTED
        for place in ("cli.diagnose_command.diagnose", "cli.reproduce_command.reproduce",
                      "cli.demo_command.run_training"):  # fmt: skip
            stack.enter_context(mock.patch(f"elboscope.{place}", side_effect=_Reached))
        stack.enter_context(mock.patch("elboscope.data.named.fetch", side_effect=_no_network))
        yield Path(name)


class _Reached(BaseException):
    """All mistakes have been looked for: what follows takes minutes."""


def _no_network(*_: object) -> None:
    raise InputError("download", expected="a network", got="none in this campaign")


def _write_files(folder: Path) -> None:
    generator = np.random.default_rng(0)
    np.save("x.npy", (generator.random((40, 64)) < 0.3).astype(np.float32))
    Path("small.yaml").write_text(SMALL)
    for name in ("out", "empty", "folder.py", "pictures"):
        Path(name).mkdir()
    Path("loop").symlink_to("loop")
    Path("locked.npz").write_bytes(b"PK\x03\x04\x14\x00\x01\x00" + b"\0" * 40)
    Path("bad.gz").write_bytes(b"\x1f\x8b\x08\x00")


def commands(seed: int, count: int) -> Iterator[tuple[str, list[str]]]:
    """Yields the kind and the words of mistaken commands, whose files have been written."""
    kinds, weights = zip(*KINDS, strict=True)
    for n in range(count):
        rng = random.Random(f"{seed} {n}")
        kind = rng.choices(kinds, weights)[0]
        yield kind.__name__.strip("_"), kind(rng, n)


def run_command(words: list[str]) -> Ending:
    """Runs a command in this process and says how it ended."""
    out, err = io.StringIO(), io.StringIO()
    shown = "elboscope " + " ".join(map(repr, words))
    limit = contextlib.nullcontext()
    if words[:1] == ["FULL"]:
        limit, words = _small_disk(int(words[1])), words[2:]
    try:
        with limit, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(words)
    except _Reached:
        return Ending(ACCEPTED, shown, ACCEPTED, "")
    except BaseException as error:
        return Ending("", shown, BARE, f"{type(error).__name__}: {_text(error)}")
    said = err.getvalue().strip()
    kinds = {0: ACCEPTED, 1: ACCEPTED, 2: USER, 70: INTERNAL, 75: ACCEPTED, 130: USER, 143: USER}
    how = BARE if "Traceback" in said else kinds.get(code, BARE)
    return Ending("", shown, how, said or f"exit code {code}")._replace(kind=how)


@contextlib.contextmanager
def _small_disk(num_bytes: int) -> Iterator[None]:
    import resource
    import signal

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def _text(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())
    except Exception:
        return "an error without a text"


# Mistaken calls: for each argument something good or something else.


class Odd(nn.Module):
    """A module that does something else than its job."""

    def __init__(self, answer: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.layer, self.answer = nn.Linear(12, 12), answer

    def forward(self, x: torch.Tensor) -> object:
        return self.answer(x)


def _raise(error: BaseException) -> Callable[..., object]:
    def raising(*_: object) -> object:
        raise error

    return raising


def _modules(outputs: int, inputs: int) -> list[object]:
    linear = nn.Linear(inputs, outputs)
    answers: list[Callable[[torch.Tensor], object]] = [
        lambda x: None, lambda x: 3, lambda x: "x", lambda x: {"mu": x}, lambda x: (x, x, x), lambda x: (),
        lambda x: x[:1], lambda x: x.sum(), lambda x: x.long(), lambda x: x.to(torch.complex64),
        lambda x: x * torch.nan, lambda x: (x, 3), lambda x: [x, x[:, :1]], lambda x: x.numpy(),
        lambda x: x.nothing, lambda x: x @ x, _raise(KeyError("k")), _raise(SystemExit(0)),
        _raise(ValueError()), _raise(StopIteration()), _raise(MemoryError()), lambda x: (x, -x.abs()),
        lambda x: Normal(x, 1.0), lambda x: x[0, 0, 0, 0], lambda x: x.to("meta"), lambda x: iter([x, x]),
    ]  # fmt: skip
    return [
        *(linear,) * 60, *(Odd(answer) for answer in answers), nn.Linear(inputs, 5), nn.Linear(7, outputs),
        nn.Conv2d(1, 2, 3), nn.LSTM(inputs, outputs), nn.Sequential(), nn.Identity(), nn.Linear, None, 3, "x",
        lambda x: x, nn.Linear(inputs, outputs).double(), nn.Linear(inputs, outputs).half(), nn.ModuleList(),
        nn.Sequential(nn.Linear(inputs, outputs), nn.Sigmoid()), nn.Embedding(3, 4), [linear], nn.Module(),
        nn.Linear(inputs, outputs, device="meta"), nn.Sequential(nn.Linear(inputs, outputs), nn.Softplus()),
    ]  # fmt: skip


def _shapes(good: object) -> list[object]:
    return [*(good,) * 12, None, 12, "12", (12.0,), (-1,), (0,), (3, "a"), [12], (2, 6), (10**12,), (),
            torch.Size([12]), torch.zeros(2), np.array([12]), (True,), {}, ((12,),), (None,), b"12"]  # fmt: skip


NUMBERS_OR_NOT: tuple[object, ...] = (
    None, -1, 0, 1, 2.5, "1", "lernt", True, [1], (), torch.tensor(1.0), float("nan"), float("inf"), 1j,
    10**30, -(10**30), {}, np.float32(3), object, b"1", "learned",
)  # fmt: skip


class Call(NamedTuple):
    """A call, and the arguments that it is shown with."""

    name: str
    call: Callable[[], object]
    arguments: dict[str, object]


def _from_modules(rng: random.Random) -> Call:
    arguments = {
        "encoder": rng.choice(_modules(4, 12)),
        "decoder": rng.choice(_modules(12, 2)),
    }
    choices: dict[str, list[object]] = {
        "likelihood": ["bernoulli", "gaussian", "bernouli", None, 3, Normal, _raise(KeyError(1)), nn.Linear(2, 2),
                       ["bernoulli"], Bernoulli(0.5), lambda o: o, lambda o: None, lambda o: Normal(o, 1.0),
                       b"bernoulli", "", "categorical", "laplace", {}, lambda: 3, lambda o: Normal(o, -1.0)],
        "encoder_output": ["mu_logvar", "mu_std", "mu_logsigma", "mu_sigma", None, 3, lambda o: o, Normal,
                           _raise(SystemExit(1)), ["mu_std"], lambda o: Normal(o, 1.0), "", b"mu_std", {}],
        "data_shape": _shapes((12,)), "latent_shape": _shapes((2,)), "scale": list(NUMBERS_OR_NOT),
        "decoder_output": ["logits", "probs", "logit", 3, None, ["logits"], {}, b"probs"],
        "levels": list(NUMBERS_OR_NOT), "conditional": [True, "yes", 1, None, [], torch.tensor([1, 2])],
        "prior": [None, "N(0, 1)", 3, Normal(0.0, 1.0), Normal, es.models.VampPrior, es.models.VampPrior(-1),
                  es.models.MixturePrior(0), es.models.MixturePrior("3"), nn.Linear(2, 2), lambda: 3, [],
                  Independent(Normal(torch.zeros(3), 1.0), 1), Odd(lambda x: x), es.models.FlowPrior(-1),
                  es.models.VampPrior(3, low="a"), es.models.VampPrior(2.5), es.models.FlowPrior(2, None),
                  Independent(Normal(torch.zeros(2, 2), 1.0), 1), es.models.RealNVP()],
        "posterior": ["RealNVP", 3, es.models.RealNVP, es.models.RealNVP(-1), es.models.RealNVP(2, 0),
                      es.models.RealNVP("2"), es.models.RealNVP(context=-9), es.models.Planar(0), [],
                      es.models.FullCovariance(), es.models.FullCovariance, es.models.VampPrior(), nn.Linear(2, 2),
                      es.models.RealNVP(2, 8, 0), es.models.MAF(1, 2.5, 0), es.models.IAF(None, 8, 0)],
    }  # fmt: skip
    for name in rng.sample(sorted(choices), rng.randint(0, 3)):
        arguments[name] = rng.choice(choices[name])
    return Call("from_modules", lambda: _used(es.from_modules(**arguments)), arguments)


def _used(model: object) -> object:
    """A model that was made is checked: what it does then is blamed as well."""
    return es.check_model(model, torch.zeros(4, 12))


def _data(rng: random.Random) -> object:
    x = (torch.rand(24, 12) < 0.4).float()

    class Raising(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> object:
            raise KeyError(index)

    class Rows(torch.utils.data.Dataset):
        def __init__(self, rows: list[object]) -> None:
            self.rows = rows

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> object:
            return self.rows[index]

    loader = torch.utils.data.DataLoader
    return rng.choice([
        *(x,) * 80, None, 3, "x.npy", [], x.tolist(), x[0], x[:0], x * torch.nan, x.to(torch.complex64), x.int(),
        x.double(), x.half(), x.bool(), x[:1], x[:, :3], x.reshape(24, 3, 4), x.numpy(), x.numpy().astype("O"),
        x.numpy().astype(str), x * 1e30, -x, Raising(), Rows([]), Rows([x[0], x[1, :3]]), Rows([{"x": x[0]}] * 4),
        Rows([None] * 4), Rows(["a", "b"]), loader(Raising(), 2), loader(Rows([x[0], 3]), 2), x.to("meta"),
        x.to_sparse(), torch.zeros(()), np.zeros(3), np.float32(3), x.T, b"x", range(3), iter(x), {"x": x}, Path("x"),
        loader(Rows([x[0], x[1, :3]]), 2), np.ma.masked_array(x.numpy(), x.numpy() > 0), x.clone().requires_grad_(), object,
        torch.quantize_per_tensor(x.detach(), 0.1, 0, torch.quint8), torch.nested.nested_tensor([x[0], x[1, :3]]),
    ])  # fmt: skip


def _model(rng: random.Random) -> object:
    good = es.models.mlp_vae((12,), 2, (8,))
    plain = type("Plain", (), {"prior": lambda s: good.prior(), "decode": lambda s, z: good.decode(z),
                               "encode": lambda s, x: good.encode(x)})  # fmt: skip
    methods = {"prior": good.prior, "encode": good.encode, "decode": good.decode}
    answers: list[Callable[..., object]] = [
        lambda *_: None, lambda *_: 3, lambda *v: v[-1], _raise(KeyError("k")), _raise(SystemExit(0)), Normal,
        _raise(StopIteration()), lambda: None, lambda *_: Normal(torch.zeros(2), 1.0), _raise(MemoryError()),
        lambda *_: Normal(torch.zeros(3, 3), 1.0), lambda *_: Independent(Normal(torch.zeros(2), 1.0), 1),
        lambda *_: Independent(Normal(torch.zeros(2).double(), 1.0), 1), _raise(ValueError("nan in the text")),
    ]  # fmt: skip

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = good

    own = Own()
    for name, method in methods.items():
        setattr(own, name, rng.choice(answers) if rng.random() < 0.4 else method)
    frozen = es.models.mlp_vae((12,), 2, (8,)).requires_grad_(False)
    return rng.choice([
        *(good,) * 30, *(own,) * 25, frozen, plain(), plain, None, 3, "model", nn.Linear(12, 4), es.models.mlp_vae((12,), 2).double(),
        es.models.mlp_gan((12,), 2, (8,)), es.models.mlp_vae, es.models.LinearGaussian.instance_1(), [good],
        {"model": good}, es.models.mlp_vae((12,), 2, (8,)).to("meta"), es.models.mlp_hybrid((12,), 2, (8,)),
        es.models.mlp_vae((1, 3, 4), 2, (8,)), es.models.mlp_vae((12,), 2, (8,), "relu", "categorical"),
        es.from_modules(nn.Linear(12, 4), nn.Linear(2, 12), data_shape=(12,), latent_shape=(2,), conditional=True)
    ])  # fmt: skip


def _conditions(rng: random.Random) -> object:
    return rng.choice([None, torch.zeros(24, 3), torch.zeros(3), torch.zeros(()), 3, "c", [1] * 24, np.zeros((24, 1)),
                       torch.zeros(24, 1).to("meta"), {}, range(24), torch.zeros(24, dtype=torch.complex64)])  # fmt: skip


def _check(rng: random.Random) -> Call:
    arguments = {"model": _model(rng), "x": _data(rng)}
    if rng.random() < 0.3:
        arguments["condition"] = _conditions(rng)
    return Call("check_model", lambda: es.check_model(**arguments), arguments)


def _train(rng: random.Random) -> Call:
    values = [
        *NUMBERS_OR_NOT,
        (1, 2),
        (0.9, 0.99),
        (0.9,),
        "ab",
        "burda",
        "cuda:9",
        "cpu",
        (None, 1),
        [0.9, "x"],
    ]
    settings = {"epochs": 1, "tensorboard": False, "batch_size": 12}
    for name in rng.sample((*SETTINGS, "objective"), rng.choice((0, 1, 1, 2))):
        settings[name] = rng.choice(values)
    if rng.random() < 0.3:
        objectives = (
            es.models.VampPrior(),
            "ELBO",
            training.ELBO,
            training.IWAE(2),
            lambda m, x: 3,
            3,
            None,
            training.AAE(),
            training.GANGame(),
            lambda m, x, e: 3,
            training.AVB(),
            training.WakePhase(),
        )
        settings["objective"] = rng.choice(objectives)
    choices: dict[str, Callable[[], object]] = {
        "folder": lambda: rng.choice(("", "\0", 3, b"x", "/dev/null/x", "/proc/x", Path("/"), None, [], "x.npy",
                                      "out/run", "x" * 300, Path("~nobody"))),
        "x": lambda: _data(rng), "condition_train": lambda: _conditions(rng), "condition": lambda: _conditions(rng),
        "binarisation": lambda: rng.choice(("fixed", 3, Binarisation("fixed"), Binarisation("dynamic"), None,
                                            Binarisation, {"mode": "fixed"}, [], "")),
        "resume": lambda: rng.choice((True, "yes", None, 3, [])), "config": lambda: rng.choice((3, None, b"x", {}, [])),
        "progress": lambda: rng.choice((3, "x", lambda: 3, _raise(KeyError(1)), None, [], lambda a, b: 1 / 0)),
        "about": lambda: rng.choice(({"a": object()}, 3, "x", {1: 2}, {"a": {1j}}, [], {"a": torch.zeros(2)})),
        "launcher": lambda: rng.choice((3, "cpu", None, object(), [], torch.device("cpu"))),
    }  # fmt: skip
    arguments = {"model": _model(rng), "x_train": _data(rng)}
    for name in rng.sample(sorted(choices), rng.choice((0, 0, 1, 2))):
        arguments[name] = choices[name]()
    whole = rng.choice((dict, None)) if rng.random() < 0.1 else training.TrainingSettings

    def run() -> object:
        made = whole(**settings) if whole is not None else rng.choice((3, "x", None, []))
        return training.train(settings=made, **arguments)

    return Call("train", run, arguments | {"settings": settings})


def calls(seed: int, count: int) -> Iterator[Ending]:
    """Yields how mistaken calls of ``from_modules``, ``train`` and ``check_model`` ended."""
    for n in range(count):
        rng = random.Random(f"calls {seed} {n}")
        torch.manual_seed(n)
        made = rng.choice((_from_modules, _check, _train))(rng)
        shown = f"{made.name}({', '.join(f'{k}={_short(v)}' for k, v in made.arguments.items())})"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made.call()
        except InputError as error:
            yield Ending(made.name, shown, USER, str(error))
        except BaseException as error:
            yield Ending(made.name, shown, BARE, f"{type(error).__name__}: {_text(error)}")
        else:
            yield Ending(made.name, shown, ACCEPTED, "")


def _short(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return (
            f"tensor {tuple(value.shape)} {value.dtype}"
            if not value.is_nested
            else "a nested tensor"
        )
    return " ".join(repr(value).split())[:80]


def main(seed: int, count: int) -> None:
    """Prints the counts, and every fault; exits with 1 if there is one.

    Args:
        seed: Random seed of the mistakes.
        count: How many commands are generated; a sixth as many calls.
    """
    with prepared() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        endings = [run_command(words)._replace(kind=kind) for kind, words in commands(seed, count)]
        _tell("commands", endings)
        made = list(calls(seed, count // 6))
        _tell("calls", made)
        del folder
    if any(ending.how in FAULTS for ending in (*endings, *made)):
        sys.exit(1)


def _tell(what: str, endings: list[Ending]) -> None:
    total = Counter(ending.how for ending in endings)
    kinds = (USER, ACCEPTED, *FAULTS)
    print(f"{len(endings)} mistaken {what}:", ", ".join(f"{how} {total[how]}" for how in kinds))
    for kind in sorted({ending.kind for ending in endings}):
        here = Counter(ending.how for ending in endings if ending.kind == kind)
        print(f"  {kind:<14}", ", ".join(f"{how} {here[how]}" for how in kinds if here[how]))
    for ending in endings:
        if ending.how in FAULTS:
            print(f"  {ending.how}: {ending.mistake[:300]}\n      {ending.said[:400]}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:] or (0, 3000)))
