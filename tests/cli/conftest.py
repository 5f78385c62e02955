"""The command line is called as a function, and as a process where processes matter."""

import textwrap

import numpy as np
import pytest

from elboscope.cli import main

CONFIG = """
data: digits
model: {class_path: mlp_vae, init_args: {latent_dim: 2, hidden: [16]}}
training: {epochs: 2, tensorboard: false}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(CONFIG)
    generator = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", (generator.random((60, 64)) < 0.3).astype(np.float32))
    np.save(tmp_path / "images.npy", (generator.random((60, 1, 8, 8)) < 0.3).astype(np.float32))
    return tmp_path


@pytest.fixture
def refuses(folder, capsys):
    """Runs a command that must fail: one line with these words, code 2, nothing written."""

    def check(command: str, *words: str) -> str:
        before = sorted(folder.rglob("*"))
        assert main(command.split()) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1, line
        assert line.startswith("elboscope: error: ")
        assert "Traceback" not in line
        for word in words:
            assert word in line
        after = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
        assert sorted(after) == before
        return line

    return check


@pytest.fixture
def user_file(folder):
    """Writes a user's file and returns its name."""

    def write(code: str, name: str = "mine.py") -> str:
        (folder / name).write_text(textwrap.dedent(code))
        return name

    return write
