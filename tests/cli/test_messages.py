"""Every message by its words: the offender, what was expected, what came, the nearest choice."""

from pathlib import Path

import numpy as np
import pytest

from elboscope.cli import data_command, main


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("trian a.yaml", ["COMMAND: expected one of demo, train", "'trian'", "mean 'train'?"]),
        ("", ["error: COMMAND: expected one of demo, train,", "got none. See elboscope --help"]),
        ("--verson", ["--verson", "unknown option", "Did you mean '--version'?"]),
        ("train", ["elboscope train: expected CONFIG.yaml"]),
        ("sample run", ["elboscope sample: expected --out"]),
        ("demo --sed 3", ["--sed", "(--out, --seed)", "Did you mean '--seed'?"]),
        ("demo --seed x", ["--seed: expected a whole number ≥ 0; got 'x'"]),
        ("demo --seed -1", ["--seed: expected a whole number ≥ 0; got '-1'"]),
        ("sample run --out a.png --num 0", ["--num: expected a whole number ≥ 1; got '0'"]),
        ("demo --seed", ["--seed", "one argument"]),
        ("data here", ["here: expected no further argument of elboscope data"]),
        ("diagnose r --budget quik", ["one of quick, standard, thorough", "mean 'quick'?"]),
        ("diagnose r --binarise fix", ["one of dynamic, fixed", "mean 'fixed'?"]),
    ],
)
def test_what_was_typed(refuses, command, words):
    refuses(command, *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--training.epoch 3", ["training.epoch:", "got 'epoch'", "Did you mean 'epochs'?"]),
        ("--trainin.epochs 3", ["--trainin.epochs:", "Did you mean 'training'?"]),
        ("--training.epochs three", ["training.epochs: expected a whole number; got 'three'"]),
        ("--training.epochs 0", ["epochs: expected a whole number ≥ 1; got 0"]),
        ("--training.compile 3", ["training.compile: expected true or false; got 3"]),
        ("--training.betas [0.9]", ["training.betas: expected a list of 2", "got [0.9]"]),
        ("--training.seed", ["--training.seed: expected a value after it"]),
        ("--training.device cud", ["training.device: expected cpu", "'cud'"]),
        ("--training.device cuda:99", ["training.device: expected cpu", "CUDA devices here"]),
        ("--training [", ["--training: expected a value", "line 1, column 2"]),
        ("--training 3", ["training: expected keys with values; got int 3"]),
        ("--data.name 3", ["--data.name: expected data alone"]),
        ("--data 3", ["data: expected the name or file of a data set; got 3"]),
        ("--data digit", ["data: expected one of digits, mnist", "Did you mean 'digits'?"]),
        ("--data no.npy", ["no.npy: expected a file or folder that exists"]),
        ("--binarisation fixd", ["binarisation: expected one of dynamic", "mean 'fixed'?"]),
        ("--binarisation.seeds 1", ["binarisation.seeds", "Did you mean 'seed'?"]),
        ("--model mlp_va", ["model.class_path: expected one of mlp_vae", "mean 'mlp_vae'?"]),
        ("--model conv_vae", ["model.init_args.latent_dim", "none, which conv_vae needs"]),
        ("--model 3", ["model: expected class_path and init_args; got int 3"]),
        ("--model {}", ["model.class_path: expected one of mlp_vae, conv_vae"]),
        ("--model.init_args 3", ["--model.init_args: expected keys with values"]),
        ("--model.hiden [3]", ["model.init_args.hiden", "Did you mean 'hidden'?"]),
        ("--model.hidden [3.5]", ["model.init_args.hidden: expected a list, each a whole"]),
        (
            "--model.latent_dim -1",
            ["latent_dim: expected at least one unit in every layer; got -1"],
        ),
        ("--model.likelihood bernouli", ["one of bernoulli, cont", "Did you mean 'bernoulli'?"]),
        ("--objective IWEA", ["objective.class_path", "Did you mean 'IWAE'?"]),
        ("--objective.betta 2", ["objective.init_args.betta: expected one of analytic_kl"]),
        ("--resum x", ["--resum:", "expected one of data, binarisation"]),
        ("--resume", ["runs/small: expected the folder of a run to resume"]),
    ],
)
def test_configurations(refuses, options, words):
    refuses(f"train small.yaml {options}", *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: [digits", ["bad.yaml: expected YAML", "(line 1, column 14)"]),
        ("- a\n- b\n", ["bad.yaml: expected a YAML mapping", "list ['a', 'b']"]),
        ("", ["bad.yaml: expected a YAML mapping", "got nothing"]),
        ("dta: digits\n", ["bad.yaml, key dta", "Did you mean 'data'?"]),
        ("data: digits\n", ["model: expected this key; got none"]),
        ("model: mlp_vae\n", ["data: expected this key; got none"]),
        ("data: digits\nmodel: {clas_path: a}\n", ["model.clas_path", "mean 'class_path'?"]),
        ("data: digits\nmodel: {class_path: 3}\n", ["model.class_path: expected a name"]),
    ],
)
def test_yaml_files(refuses, folder, text, words):
    (folder / "bad.yaml").write_text(text)
    refuses("train bad.yaml", *words)


def test_files_and_folders(refuses, folder):
    refuses("train smal.yaml", "smal.yaml: expected a YAML file", "Did you mean 'small.yaml'?")
    (folder / "empty").mkdir()
    refuses("train empty", "empty: expected a YAML file; got a folder")
    refuses("diagnose empty --data x.npy", "empty: expected a run folder with a run.json")
    refuses("diagnose emty --data x.npy", "emty: expected a run folder,", "mean 'empty'?")
    refuses("diagnose x.npy", "x.npy: expected a run folder", "got a file")
    refuses("train small.yaml --out x.npy", "x.npy: expected a folder; got a file")


def test_references_into_code(refuses, user_file):
    user_file("model = 3\nmodal_number = 4\n")
    refuses("check mine.py:modl --data x.npy", "mine.py:modl", "Did you mean 'model'?")
    refuses("check mine.py:zzz --data x.npy", "It defines model, modal_number.")
    refuses("check min.py:model --data x.npy", "min.py: expected a Python file; got no such",
            "Did you mean 'mine.py'?")  # fmt: skip
    refuses("check mine.py --data x.npy", "no name after a colon", "For example mine.py:model")
    refuses("check mathe:model --data x.npy", "mathe: expected an importable module",
            "no module named 'mathe'", "Did you mean 'math'?")  # fmt: skip
    refuses(
        "check mine.py:model --data x.npy",
        "mine.py:model: expected a model, with prior(), decode(z)",
        "int",
    )


def test_a_users_file_that_raises(refuses, user_file):
    user_file("import math\n\nx = 1 / 0\n")
    refuses("check mine.py:model --data x.npy", "ZeroDivisionError: division by zero",
            "(mine.py, line 3)")  # fmt: skip
    user_file("import math\n\nx = = 1\n")
    refuses("check mine.py:model --data x.npy", "SyntaxError", "(mine.py, line 3)")
    user_file("import no_such_module\n")
    refuses("check mine.py:model --data x.npy", "ModuleNotFoundError", "(mine.py, line 1)")
    user_file("raise SystemExit('stop')\n")
    refuses("check mine.py:model --data x.npy", "SystemExit: stop", "(mine.py, line 1)")
    user_file("def model(size): ...\n")
    refuses("check mine.py:model --data x.npy", "mine.py:model: expected a model for no arguments",
            "TypeError", "'size'")  # fmt: skip


PAIR = """
    from torch import nn
    import elboscope as es
    model = es.from_modules(nn.Linear(64, 4), nn.Linear(2, 64))
"""


def test_data_that_do_not_fit(refuses, user_file, folder):
    user_file(PAIR)
    np.save(folder / "small.npy", np.zeros((5, 9), dtype=np.float32))
    np.save(folder / "nan.npy", np.full((5, 64), np.nan))
    (folder / "cut.npy").write_bytes((folder / "x.npy").read_bytes()[:200])
    refuses("diagnose mine.py:model", "--data: expected the name or file", "--data x.npy")
    refuses("diagnose mine.py:model --data small.npy",
            "--data small.npy: expected datapoints of shape (64,)", "got (9,)")  # fmt: skip
    refuses("diagnose mine.py:model --data nan.npy", "nan.npy: expected finite values")
    refuses("diagnose mine.py:model --data cut.npy", "cut.npy: expected a complete .npy file")
    refuses("diagnose mine.py:model --data x.npz", "x.npz: expected a file or folder that exists")
    refuses("diagnose mine.py:model --data x.npy --train-data y.npy", "y.npy: expected a file")
    refuses("diagnose mine.py:model --data x.npy --out x.npy", "--out: expected a folder")
    refuses("sample mine.py:model --out a.jpg", "--out: expected a file ending in .png; got '.jpg'")


def test_a_breach_of_the_contract_names_its_clause(refuses, user_file):
    user_file("""
        import torch
        from torch.distributions import Independent, Normal
        class Model:
            def prior(self): return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
            def encode(self, x): return Normal(x[:, :2], 1.0)
            def decode(self, z): return Independent(Normal(z.repeat_interleave(32, -1), 1.0), 1)
        model = Model()
    """)
    refuses("diagnose mine.py:model --data x.npy", "encode(x): expected batch shape (16,)",
            "Wrap it in Independent(…, 1)")  # fmt: skip


def test_a_defect_is_told_apart_from_a_mistake(folder, capsys, monkeypatch):
    def broken(arguments):
        raise KeyError("zebra")

    monkeypatch.setattr(data_command, "run", broken)
    assert main(["data"]) == 70
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "internal error: KeyError: 'zebra' (test_messages.py, line" in line
    assert "please report it" in line
    assert main(["data", "--debug"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_debug_shows_the_traceback_of_a_mistake(folder, capsys):
    assert main(["--debug", "train", "no.yaml"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("elboscope: error: no.yaml: expected a YAML file")


def test_ctrl_c_outside_training(folder, capsys, monkeypatch):
    def stopped(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(data_command, "run", stopped)
    assert main(["data"]) == 130
    assert "Stopped by Ctrl-C" in capsys.readouterr().err


def test_what_the_operating_system_refuses_is_a_message(folder, capsys, monkeypatch):
    def full(arguments):
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr(data_command, "run", full)
    assert main(["data"]) == 2
    assert "report.html: No space left on device" in capsys.readouterr().err


def test_channels_last_are_not_read_as_channels_first(refuses):
    (Path.cwd() / "colour.py").write_text(
        "import elboscope as es\n"
        "from torch import nn\n"
        "flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))\n"
        "model = es.from_modules(flat, nn.Linear(2, 192), data_shape=(3, 8, 8))\n"
    )
    x = np.zeros((20, 3, 8, 8), dtype="float32")
    np.save("first.npy", x)
    np.save("last.npy", np.moveaxis(x, 1, -1))
    words = ("expected datapoints of shape (3, 8, 8)", "got (8, 8, 3)", "numpy.moveaxis(x, -1, 1)")
    refuses("diagnose colour.py:model --data last.npy", "--data last.npy:", *words)
    refuses("diagnose colour.py:model --data first.npy --train-data last.npy",
            "--train-data last.npy:", *words)  # fmt: skip
