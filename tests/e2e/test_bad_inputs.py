"""A hundred generated mistakes, with valid inputs between them.

Each mistake is answered by exit code 2 and one line that names the offender, what was expected
and what came, and leaves no file. Each valid input succeeds right after, in the same process.
"""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elboscope.cli import main

MODEL = """
from torch import nn
import elboscope as es

model = es.from_modules(nn.Linear(6, 4), nn.Linear(2, 6), likelihood="bernoulli")
"""
VALID = {
    "data": "digits",
    "binarisation": {"mode": "dynamic", "seed": 0},
    "model": {"class_path": "mlp_vae", "init_args": {"latent_dim": 2, "hidden": [8]}},
    "objective": {"class_path": "ELBO"},
    "training": {"epochs": 1, "batch_size": 500, "tensorboard": False},
}
FIFTY = settings(max_examples=50, deadline=None, derandomize=True,
                 suppress_health_check=list(HealthCheck))  # fmt: skip


def run(*arguments: str) -> tuple[int, str]:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main(list(arguments))
    return code, errors.getvalue()


def refused(code: int, error: str, *offender: str) -> None:
    assert code == 2, error
    assert len(error.strip().splitlines()) == 1, error
    assert "expected" in error, error
    assert "got" in error, error
    assert any(name in error for name in offender), (offender, error)


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "my_file.py").write_text(MODEL)
    binary = np.random.default_rng(0).integers(0, 2, (40, 6)).astype(np.float32)
    np.save(folder / "good.npy", binary)
    return folder


def spoilt(kind: str, n: int, place: int) -> np.ndarray:
    x = np.random.default_rng(n).integers(0, 2, (n, 6)).astype(np.float32)
    row, column = place % n, place % 6
    match kind:
        case "nan" | "infinite":
            x[row, column] = np.nan if kind == "nan" else -np.inf
        case "shape":
            return np.zeros((n, 1 + place % 5), np.float32)
        case "axes":
            return np.zeros((n, 2, 5), np.float32)
        case "empty":
            return x[:0]
        case "scalar":
            return np.float32(0.5)
        case "complex":
            return x.astype(np.complex64)
        case "text":
            return x.astype("U3")
        case "dates":
            return x.astype("datetime64[s]")
    return x


KINDS = ["nan", "infinite", "shape", "axes", "empty", "scalar", "complex", "text", "dates"]


@pytest.mark.slow
@FIFTY
@given(st.sampled_from([*KINDS, "truncated", "object"]), st.integers(3, 30), st.integers(0, 10**6))
def test_bad_data(folder, kind, n, place):
    bad = folder / "bad.npy"
    if kind == "object":
        np.save(bad, np.array([{"a": 1}] * n, dtype=object), allow_pickle=True)
    elif kind == "truncated":
        whole = (folder / "good.npy").read_bytes()
        bad.write_bytes(whole[: place % len(whole)])
    else:
        np.save(bad, spoilt(kind, n, place))
    before = files(folder)
    command = ["diagnose", f"{folder}/my_file.py:model", "--out", f"{folder}/report"]
    code, error = run(*command, "--data", str(bad), "--budget", "quick")
    refused(code, error, "bad.npy", "x", "encode", "data_shape")
    assert files(folder) == before
    code, error = run("check", command[1], "--data", f"{folder}/good.npy")
    assert code == 0, error


WRONG = st.sampled_from(
    [
        (("training", "epochs"), 0, "epochs"),
        (("training", "epochs"), "many", "epochs"),
        (("training", "epoch"), 3, "epoch"),
        (("training", "batch_size"), -1, "batch_size"),
        (("training", "batch_size"), 2.5, "batch_size"),
        (("training", "learning_rate"), float("nan"), "learning_rate"),
        (("training", "learning_rate"), [1], "learning_rate"),
        (("training", "rate_schedule"), "cosine", "rate_schedule"),
        (("training", "validation_fraction"), 1.5, "validation_fraction"),
        (("training", "device"), "gpu", "device"),
        (("training",), "fast", "training"),
        (("binarisation", "mode"), "randomly", "binarisation"),
        (("binarisation", "sed"), 1, "sed"),
        (("objective", "class_path"), "ELBOW", "ELBOW"),
        (("objective", "init_args"), {"beta": 2}, "beta"),
        (("objective",), {"class_path": "BetaELBO", "init_args": {"beta": "x"}}, "beta"),
        (("objective",), {"class_path": "IWAE", "init_args": {"num_sample": 5}}, "num_sample"),
        (("model", "class_path"), "mlp_va", "mlp_va"),
        (("model", "init_args", "latent"), 3, "latent"),
        (("model", "init_args", "latent_dim"), "two", "latent_dim"),
        (("model", "init_args", "latent_dim"), 0, "latent_dim"),
        (("model", "init_args", "likelihood"), "bernouli", "likelihood"),
        (("model", "init_args", "hidden"), "wide", "hidden"),
        (("data",), "mnits", "mnits"),
        (("data",), "no/such/file.npy", "no/such/file.npy"),
        (("date",), "digits", "date"),
    ]
)


@pytest.mark.slow
@FIFTY
@given(WRONG, st.booleans())
def test_bad_configs(tmp_path_factory, wrong, as_override):
    path, value, offender = wrong
    folder = tmp_path_factory.mktemp("config")
    config = yaml.safe_load(yaml.safe_dump(VALID))
    override = []
    if as_override and not isinstance(value, dict | list | float):
        override = [f"--{'.'.join(path)}", str(value)]
    else:
        target = config
        for key in path[:-1]:
            target = target.setdefault(key, {})
        target[path[-1]] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "valid.yaml").write_text(yaml.safe_dump(VALID))
    before = files(folder)
    out = str(folder / "run")
    refused(*run("train", str(folder / "config.yaml"), *override, "--out", out), offender)
    assert files(folder) == before
    code, error = run("train", str(folder / "valid.yaml"), "--out", out)
    assert code == 0, error


def test_a_config_that_is_no_yaml_and_one_that_is_missing(tmp_path):
    (tmp_path / "broken.yaml").write_text("training: {epochs: 3")
    for name in ("broken.yaml", "missing.yaml"):
        refused(*run("train", str(tmp_path / name), "--out", str(tmp_path / "run")), name)
    assert not (tmp_path / "run").exists()
