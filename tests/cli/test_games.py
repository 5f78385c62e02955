"""Games by configuration: trained, sampled, resumed, diagnosed from the command line."""

import json

import pytest

from elboscope.cli import main
from elboscope.training import read_rows

CONFIG = """
data: digits
model: {{class_path: {model}, init_args: {arguments}}}
objective: {{class_path: {game}}}
training: {{epochs: 1, batch_size: 200, betas: [0.5, 0.9], tensorboard: false}}
"""
HYBRID = "{latent_dim: 2, hidden: [8], adversary_hidden: [8], code_hidden: [8]}"
JOINT = "{latent_dim: 2, hidden: [8], adversary_hidden: [8], adversaries: [joint]}"
GAN = "{latent_dim: 2, hidden: [8], discriminator_hidden: [8]}"
AVB = """{latent_dim: 2, hidden: [8], num_bases: 3, noise_dim: 4, basis_hidden: [8],
  adversary_hidden: [8], adversary_features: 8}"""
GAMES = {
    "GANGame": ("mlp_gan", GAN),
    "WGANGP": ("mlp_gan", GAN),
    "AAE": ("mlp_hybrid", HYBRID),
    "WAEGAN": ("mlp_hybrid", HYBRID),
    "WAEMMD": ("mlp_hybrid", HYBRID),
    "VGH": ("mlp_hybrid", HYBRID),
    "VGHPlusPlus": ("mlp_hybrid", HYBRID),
    "MatchedELBO": ("mlp_hybrid", HYBRID),
    "AVB": ("mlp_avb", AVB),
    "VEEGAN": ("mlp_hybrid", JOINT),
}


def write(folder, game: str) -> None:
    model, arguments = GAMES[game]
    text = CONFIG.format(model=model, arguments=arguments, game=game)
    (folder / "game.yaml").write_text(text)


@pytest.mark.parametrize("game", GAMES)
def test_train_a_game(game, folder, capsys) -> None:
    write(folder, game)
    assert main(["train", "game.yaml", "--out", "run"]) == 0
    said = capsys.readouterr().out
    assert "finished (epoch 1" in said
    assert "bound" not in said or game == "MatchedELBO"
    rows = read_rows(folder / "run" / "metrics.csv")
    assert len(rows) == 1
    assert any(name.endswith("_loss") for name in rows[0])
    record = json.loads((folder / "run" / "run.json").read_text())
    assert record["objective"].startswith(f"{game}(")


@pytest.mark.slow
def test_a_gan_from_its_configuration_to_its_report(folder, capsys) -> None:
    write(folder, "GANGame")
    assert main(["train", "game.yaml", "--out", "run"]) == 0
    command = "train run/config.yaml --out run --resume --training.epochs 2"
    assert main(command.split()) == 0
    assert [row["epoch"] for row in read_rows(folder / "run" / "metrics.csv")] == [1.0, 2.0]
    assert main(["sample", "run", "--out", "samples.png", "--num", "9"]) == 0
    assert "samples G(z) at 9 draws of z" in capsys.readouterr().out
    assert (folder / "samples.png").stat().st_size > 1000
    assert main(["check", "run", "--data", "digits"]) == 0
    assert "PointMass" in capsys.readouterr().out
    assert main(["diagnose", "run", "--budget", "quick"]) == 0
    findings = json.loads((folder / "run" / "report" / "findings.json").read_text())["findings"]
    severities = {finding["check"]: finding["severity"] for finding in findings}
    assert severities.pop("divergence") == "ok"
    assert severities.pop("sample quality") == "problem"  # after two epochs
    assert set(severities.values()) == {"unavailable"}
    reasons = " ".join(finding["summary"] for finding in findings)
    assert reasons.count("a GAN has no encoder q(z|x), and its p(x|z) has no density") == 8
    page = (folder / "run" / "report" / "report.html").read_text()
    assert "data_accuracy" not in page or "nan" not in page.lower()


def test_unknown_games_and_missing_adversaries(folder, refuses) -> None:
    write(folder, "VGH")
    refuses(
        "train game.yaml --objective VGHPlus", "objective.class_path", "Did you mean", "VGHPlus"
    )
    refuses("train game.yaml --objective VEEGAN --out run", "adversary 'joint'", "'data', 'code'")
