"""Models with a known state of health: what the checks are calibrated on.

Each entry trains (or writes down) a small model, and says which checks must raise a warning or a
problem (``sick``) and which must not (``healthy``); checks named in neither are not counted, where
a mistake has an honest side effect. The sick ones are made by mistakes that people make.

    python tests/diagnostics/zoo.py          # prints the confusion table and every verdict
    python tests/diagnostics/zoo.py --write  # and writes docs/calibration.md
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

import elboscope as es
from elboscope.core import Bound, Finding, seeded
from elboscope.data import Binarisation, digits
from elboscope.diagnostics import CHECKS, Budget, Evidence, gather_evidence
from elboscope.models import LinearGaussian, mlp_vae

BUDGET = Budget(
    "quick", 500, 16, 160, 160, 600, 60.0, 20, 6, 20, 20, 24,
    num_prior=3000, ratio_steps=100, densities=("gmm", "maf"),
)  # fmt: skip
TRUST, CERTIFICATE, GAP, INFERENCE, COLLAPSE, HOLE, LOW, SCALE, OVERFIT, DIVERGED = NAMES = (
    "likelihood trust",
    "likelihood certificate",
    "bound tightness",
    "inference gap",
    "posterior collapse",
    "prior hole",
    "low-posterior samples",
    "likelihood scale",
    "overfitting",
    "divergence",
)
Loss = Callable[[object, Tensor], Bound]


@dataclass(frozen=True)
class Subject:
    """A model with its data, and what is known about its health."""

    name: str
    model: object
    x: Tensor
    x_train: Tensor
    sick: tuple[str, ...] = ()
    healthy: tuple[str, ...] = ()
    history: tuple[dict[str, float], ...] = ()

    @property
    def budget(self) -> Budget:
        """Without the parts that speak of nothing for which the model counts."""
        counted, budget = {*self.sick, *self.healthy}, BUDGET
        if not counted & {HOLE, LOW}:
            budget = replace(budget, num_prior=0, ratio_steps=0, densities=())
        if not counted & {TRUST, CERTIFICATE, GAP}:
            budget = replace(budget, num_temperatures=0)
        return budget

    def evidence(self) -> Evidence:
        given = {"x_train": self.x_train, "history": self.history}
        return gather_evidence(self.model, self.x, **given, budget=self.budget, seed=1)

    def findings(self) -> dict[str, Finding]:
        evidence = self.evidence()
        return {finding.check: finding for finding in (check(evidence) for check in CHECKS)}


@cache
def grey() -> tuple[Tensor, Tensor]:
    images = digits()
    return images.train.flatten(1), images.test.flatten(1)


@cache
def binary() -> tuple[Tensor, Tensor]:
    binarisation = Binarisation("fixed", seed=0)
    train, test = grey()
    return binarisation.fixed_draw(train, stream=1), binarisation.fixed_draw(test)


def elbo(model: object, x: Tensor) -> Bound:
    return es.objectives.elbo_analytic_kl(model, x)


def beta(weight: float) -> Loss:
    return lambda model, x: es.objectives.beta_elbo(model, x, weight)


def fitted(
    model: nn.Module,
    x: Tensor,
    loss: Loss = elbo,
    *,
    epochs: int = 60,
    rate: float = 3e-3,
    dynamic: bool = False,
    frozen: str = "",
    seed: int = 0,
) -> tuple[nn.Module, tuple[dict[str, float], ...]]:
    """Trains in a plain loop; returns the model and a history of its bound."""
    with seeded(seed):
        for name, p in model.named_parameters():
            p.requires_grad_(not (frozen and name.startswith(frozen)))
        free = [p for p in model.parameters() if p.requires_grad]
        optimiser, rows, step = torch.optim.Adam(free, rate), [], 0
        for epoch in range(epochs):
            total = 0.0
            for rows_of_batch in torch.randperm(len(x)).split(100):
                batch = x[rows_of_batch]
                batch = torch.bernoulli(batch) if dynamic else batch
                bound = loss(model, batch)
                optimiser.zero_grad()
                bound.loss.backward()
                optimiser.step()
                total, step = total + bound.value.sum().item(), step + 1
            rows.append({"step": float(step), "epoch": epoch + 1.0, "train_bound": total / len(x)})
    return model.eval(), tuple(rows)


def vae(d: int = 6, hidden: int = 64, seed: int = 0, **likelihood: object) -> nn.Module:
    with seeded(seed):
        return mlp_vae((64,), d, hidden=(hidden,), **likelihood)


def on_binary(
    name: str,
    loss: Loss = elbo,
    sick: tuple[str, ...] = (),
    healthy: tuple[str, ...] = (),
    **k: object,
) -> Subject:
    """A Bernoulli VAE on binary digits, a fresh binarisation of each minibatch."""
    network = {key: k.pop(key) for key in ("d", "hidden") if key in k}
    model, history = fitted(vae(**network), grey()[0], loss, **({"dynamic": True} | k))
    return Subject(name, model, binary()[1], binary()[0], sick, healthy, history)


def on_grey(
    name: str,
    loss: Loss = elbo,
    sick: tuple[str, ...] = (),
    healthy: tuple[str, ...] = (),
    *,
    likelihood: str = "gaussian",
    scale: float | str | None = None,
    **k: object,
) -> Subject:
    """A VAE on grey digits."""
    options = {"likelihood": likelihood} | ({"scale": scale} if scale is not None else {})
    network = {key: k.pop(key) for key in ("d", "hidden") if key in k}
    model, history = fitted(vae(**network, **options), grey()[0], loss, **k)
    return Subject(name, model, grey()[1], grey()[0], sick, healthy, history)


def memorised(name: str, n: int, *, loss: Loss = elbo, **options: object) -> Subject:
    """A large network on a few datapoints, for long, on one fixed binarisation."""
    binarised = options.get("likelihood", "bernoulli") == "bernoulli"
    train, test = binary() if binarised else grey()
    model, history = fitted(
        vae(8, 200, **options), train[:n], loss, epochs=500 if n <= 100 else 300
    )
    return Subject(name, model, test, train[:n], (OVERFIT,), (DIVERGED,), history)


def linear(
    name: str, model: LinearGaussian, data: LinearGaussian, *verdicts: tuple[str, ...]
) -> Subject:
    """A linear-Gaussian model (every answer known) on data of a linear-Gaussian model."""
    x, x_train = data.sample(300, seed=10)[0], data.sample(1000, seed=11)[0]
    return Subject(name, model, x, x_train, *verdicts)


def kl_weight(weight: float, reduction: str) -> Loss:
    return lambda model, x: es.objectives.kl_weighted(model, x, weight, reduction)


def mean_bce(model: object, x: Tensor) -> Bound:
    """Cross-entropy averaged over pixels + KL, a very common mistake: β = 64."""
    return es.objectives.beta_elbo(model, x, float(x[0].numel()))


def iwae(K: int) -> Loss:
    return lambda model, x: es.objectives.iwae(model, x, K)


def without(*names: str) -> tuple[str, ...]:
    return tuple(name for name in NAMES if name not in names)


def correlated() -> LinearGaussian:
    """Instance 2 taken further: a factorised encoder of a strongly correlated posterior."""
    W = torch.tensor([[1, 0.9], [1, 0.9], [0.3, 0.4]], dtype=torch.float64)
    return LinearGaussian(W, torch.zeros(3, dtype=torch.float64), 0.2)


def mnist_like(d: int = 6, D: int = 30, sigma2: float = 0.1) -> LinearGaussian:
    """Orthogonal loadings of falling size: an exact encoder, a code of many nats."""
    base = LinearGaussian.perfect(d, D, seed=3)
    sizes = torch.linspace(2.0, 0.7, d, dtype=torch.float64)
    return LinearGaussian(base.W.detach() * sizes, base.b.detach(), sigma2)


def nan_parameters() -> Subject:
    model = vae()
    with torch.no_grad():
        next(model.decoder.parameters())[0, 0] = torch.nan
    return Subject("one decoder weight is NaN", model, binary()[1], binary()[0], (DIVERGED,))


def scaled_data() -> Subject:
    """Pixels left in [0, 255]·100 for a Gaussian network made for [0, 1]."""
    train, test = (25_500 * x for x in grey())
    model, history = fitted(vae(likelihood="gaussian", scale=1.0), train, epochs=15, rate=1.0)
    return Subject("pixels in [0, 25500], lr 1", model, test, train, (DIVERGED,), (), history)


def broken_history() -> Subject:
    """Training that met NaN at step 45 and whose last finite weights were kept."""
    model, history = fitted(vae(), binary()[0], epochs=3)
    last = {"step": 60.0, "epoch": 4.0, "train_bound": float("nan")}
    return Subject(
        "history ends in NaN", model, binary()[1], binary()[0], (DIVERGED,), (), (*history, last)
    )


def other_encoder() -> Subject:
    """The decoder of one run with the encoder of another: their units mean different things."""
    model, _ = fitted(vae(seed=0), grey()[0], dynamic=True, epochs=40)
    other, _ = fitted(vae(seed=1), grey()[0], dynamic=True, epochs=40, seed=1)
    model.encoder = other.encoder
    return Subject(
        "encoder of another run",
        model,
        binary()[1],
        binary()[0],
        (TRUST, CERTIFICATE, GAP, INFERENCE),
        (DIVERGED,),
    )


class Blind(nn.Module):
    """Passes on the first half of x."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return torch.cat([x[:, :half], torch.zeros_like(x[:, half:])], 1)


def blind_encoder() -> Subject:
    """A preprocessing step that lost half of the pixels, for the encoder alone."""
    model, history = fitted(vae(), grey()[0], dynamic=True)
    model.encoder = nn.Sequential(Blind(), model.encoder)
    return Subject(
        "encoder sees half of x", model, binary()[1], binary()[0], (GAP, INFERENCE), (), history
    )


def swapped_prior() -> Subject:
    """Pre-trained encoder whose codes are shifted by two: the prior's centre is empty."""
    model = mnist_like()
    return linear(
        "codes shifted by 2",
        model.with_mistuned_posterior(2.0),
        model,
        (HOLE, CERTIFICATE, GAP, INFERENCE),
    )


class Halved(nn.Module):
    """Shrinks the codes: their means, not their widths."""

    def forward(self, mu_logvar: Tensor) -> Tensor:
        mu, logvar = mu_logvar.chunk(2, -1)
        return torch.cat([mu / 2, logvar], -1)


def halved_codes() -> Subject:
    """Codes rescaled after training, for the encoder alone: the decoder is asked for more."""
    model, history = fitted(vae(), grey()[0], dynamic=True)
    model.encoder = nn.Sequential(model.encoder, Halved())
    return Subject("codes halved", model, binary()[1], binary()[0], (LOW,), (), history)


def wide_prior() -> Subject:
    """Samples drawn at a temperature: a prior of twice the width for a trained model."""
    model, history = fitted(vae(), grey()[0], dynamic=True)
    model.prior_scale.fill_(2.0)
    name = "prior of twice the width"
    return Subject(name, model, binary()[1], binary()[0], (LOW, HOLE), (), history)


def one_digit() -> Subject:
    """A model of ten digits that is used for one of them: most of its prior is elsewhere."""
    model, history = fitted(vae(), grey()[0], dynamic=True)
    images, (train, test) = digits(), binary()
    x, x_train = test[images.test_labels == 0], train[images.train_labels == 0]
    return Subject("used for zeros alone", model, x, x_train, (LOW,), (), history)


def quiet_decoder(stretch: float, shift: float, name: str) -> Subject:
    """Shifted codes, and a decoder whose samples lie near the mean of the data: x is easy there."""
    base = LinearGaussian.perfect(2, 8, sigma2=0.1)
    quiet = LinearGaussian(base.W.detach() * stretch, base.b.detach(), 0.1)
    return linear(name, quiet.with_mistuned_posterior(shift), base, (HOLE, LOW))


def healthy_subjects() -> Iterator[Subject]:
    base, first, perfect = mnist_like(), LinearGaussian.instance_1(), LinearGaussian.perfect(20, 64)
    yield linear("instance 1, exact", first, first, (), NAMES)
    yield linear("perfect 20-d", perfect, perfect, (), NAMES)
    yield linear("orthogonal 6-d", base, base, (), NAMES)
    exact = correlated().with_exact_posterior()
    yield linear("correlated, full covariance", exact, correlated(), (), NAMES)
    x, _ = base.sample(3000, seed=2)
    yield linear("pPCA by maximum likelihood", LinearGaussian.fit(x, 6), base, (), NAMES)
    yield on_binary("digits, ELBO", healthy=NAMES)
    yield on_binary("digits, 20 units", d=20, healthy=NAMES)
    warm = "digits, β from 0 to 1"
    half = vae()
    fitted(half, grey()[0], beta(0.3), epochs=20, dynamic=True)
    model, history = fitted(half, grey()[0], epochs=50, dynamic=True)
    yield Subject(warm, model, binary()[1], binary()[0], (), NAMES, history)
    # An encoder trained by IWAE does not maximise the ELBO: its gap is loose by intention.
    yield on_binary("digits, IWAE 5", iwae(5), healthy=without(GAP, INFERENCE))
    yield on_binary("digits, 2 units", d=2, healthy=NAMES)
    # Densities of grey values carry many nats, of which small encoders lose several: not counted.
    fine = without(TRUST, CERTIFICATE, GAP, INFERENCE)
    yield on_grey("digits, Gaussian, learned σ", scale="learned", healthy=fine, epochs=40)
    fine = without(TRUST, CERTIFICATE, GAP, INFERENCE, HOLE)
    yield on_grey("digits, continuous Bernoulli", likelihood="continuous_bernoulli", healthy=fine)


def collapsed_subjects() -> Iterator[Subject]:
    off, fine = (COLLAPSE,), (DIVERGED, OVERFIT, TRUST)
    yield on_binary("digits, BCE averaged over pixels", mean_bce, off, fine)
    yield on_binary("digits, β = 20", beta(20.0), off, fine)
    name = "digits, encoder frozen as initialised"
    yield on_binary(name, elbo, off, (DIVERGED, OVERFIT), frozen="encoder")
    name = "digits, mean squared error + 1·KL"
    yield on_grey(name, kl_weight(1.0, "mean"), (COLLAPSE, SCALE), fine, scale=1.0)
    yield on_grey("digits, Gaussian σ = 1", elbo, (COLLAPSE, SCALE), fine, scale=1.0)
    base = mnist_like()
    yield linear("q(z|x) = p(z)", base.with_prior_as_posterior(), base, (COLLAPSE, GAP, INFERENCE))
    loss = beta(20.0)
    cb = "digits, continuous Bernoulli, β = 20"
    yield on_grey(cb, loss, off, (DIVERGED, OVERFIT), likelihood="continuous_bernoulli")


def mis_scaled_subjects() -> Iterator[Subject]:
    yield on_grey("digits, Gaussian σ = 0.5", elbo, (SCALE,), (DIVERGED, OVERFIT), scale=0.5)
    off, fine = (SCALE, CERTIFICATE), (DIVERGED, COLLAPSE)
    yield on_grey("digits, Gaussian σ = 0.02", elbo, off, fine, scale=0.02)
    yield on_grey("digits, Bernoulli on grey", elbo, (SCALE,), (COLLAPSE,), likelihood="bernoulli")
    loss = beta(0.2)
    name = "digits, Bernoulli on grey, β = 0.2"
    yield on_grey(name, loss, (SCALE,), (COLLAPSE,), likelihood="bernoulli")
    base = mnist_like()
    wide = LinearGaussian(base.W, base.b, 1.0)
    yield linear("linear, σ² ten times too large", wide, base, (SCALE,), (DIVERGED, COLLAPSE))


def untrusted_subjects() -> Iterator[Subject]:
    second, third, base = LinearGaussian.instance_2(), correlated(), mnist_like()
    yield linear(
        "instance 2, mean-field encoder",
        second,
        second,
        (TRUST, GAP, INFERENCE),
        (SCALE, COLLAPSE, HOLE),
    )
    sick = (TRUST, GAP, INFERENCE, LOW)
    yield linear("stronger correlation", third, third, sick, (COLLAPSE,))
    narrow = base.with_mistuned_posterior(0.0, 0.2)
    yield linear("encoder too narrow", narrow, base, (TRUST, GAP), (COLLAPSE, DIVERGED))
    yield on_binary(
        "digits, β = 0.05",
        beta(0.05),
        (TRUST, CERTIFICATE, GAP, HOLE),
        (COLLAPSE, DIVERGED),
        epochs=100,
    )
    yield other_encoder()
    yield blind_encoder()
    perfect = LinearGaussian.perfect(20, 64).with_mistuned_posterior(0.0, 0.3)
    yield linear(
        "perfect 20-d, narrow encoder",
        perfect,
        LinearGaussian.perfect(20, 64),
        (TRUST, GAP, INFERENCE),
    )


def holed_subjects() -> Iterator[Subject]:
    yield on_binary(
        "digits, β = 0.01", beta(0.01), (HOLE, CERTIFICATE), (COLLAPSE, DIVERGED), epochs=100
    )
    yield on_binary("digits, no KL", beta(0.0), (HOLE, CERTIFICATE), (COLLAPSE,), epochs=100)
    name = "digits, summed squared error + 1e-4·KL"
    yield on_grey(name, kl_weight(1e-4, "sum"), (HOLE, CERTIFICATE), (COLLAPSE,), scale=0.1)
    yield swapped_prior()
    yield halved_codes()
    yield wide_prior()
    yield one_digit()
    yield quiet_decoder(0.4, 6.0, "codes shifted by 6, quiet decoder")
    yield quiet_decoder(0.5, 3.0, "codes shifted by 3, quiet decoder")


def memorising_subjects() -> Iterator[Subject]:
    yield memorised("50 digits memorised", 50)
    yield memorised("100 digits memorised", 100)
    yield memorised("200 digits memorised", 200)
    yield memorised("100 digits, IWAE 5", 100, loss=iwae(5))
    yield memorised("50 digits, Gaussian, learned σ", 50, likelihood="gaussian", scale="learned")


def diverged_subjects() -> Iterator[Subject]:
    fast = "digits, lr 1"
    yield on_binary(fast, elbo, (DIVERGED,), rate=1.0, epochs=15)
    yield on_binary("digits, lr 1, β = 0.1", beta(0.1), (DIVERGED,), rate=1.0, epochs=15, d=10)
    yield nan_parameters()
    yield scaled_data()
    yield broken_history()


Family = Callable[[], Iterator[Subject]]
# Two halves, which tests run side by side. The first has the sick ones of these two checks.
FIRST: tuple[Family, ...] = (healthy_subjects, memorising_subjects, diverged_subjects)
FIRST_SICK = (OVERFIT, DIVERGED)
SECOND: tuple[Family, ...] = (
    collapsed_subjects,
    mis_scaled_subjects,
    untrusted_subjects,
    holed_subjects,
)
SECOND_SICK = without(*FIRST_SICK)


@dataclass(frozen=True)
class Verdict:
    subject: str
    check: str
    sick: bool
    finding: Finding

    @property
    def flagged(self) -> bool:
        return self.finding.severity in ("warning", "problem")

    def __str__(self) -> str:
        return f"{self.subject}: {self.finding}"


def verdicts(families: tuple[Family, ...]) -> Iterator[Verdict]:
    """Every counted verdict."""
    for family in families:
        for subject in family():
            findings = subject.findings()
            for check in (*subject.sick, *subject.healthy):
                yield Verdict(subject.name, check, check in subject.sick, findings[check])


def table(found: tuple[Verdict, ...]) -> str:
    """The confusion table in Markdown."""
    severities = ("ok", "undecided", "unavailable", "warning", "problem")
    lines = ["| check | truth | n | " + " | ".join(severities) + " |", "|---|---|" + "---|" * 6]
    for check in NAMES:
        for sick in (False, True):
            mine = [v for v in found if v.check == check and v.sick is sick]
            counts = [sum(v.finding.severity == s for v in mine) for s in severities]
            cells = " | ".join(str(c) if c else "·" for c in counts)
            lines.append(f"| {check} | {'sick' if sick else 'healthy'} | {len(mine)} | {cells} |")
    return "\n".join(lines)


def document(found: tuple[Verdict, ...]) -> str:
    missed = [v for v in found if v.sick and not v.flagged]
    false = [v for v in found if not v.sick and v.flagged]
    lines = [f"- {v.check}: {v.subject}: {v.finding.severity}" for v in missed]
    alarms = [f"- {v.check}: {v.subject}: {v.finding.severity}" for v in false]
    listed = [f"| {s.name} | {', '.join(s.sick) or '·'} |" for s in sorted_subjects(found)]
    return (
        "\n\n".join(
            [
                INTRODUCTION,
                table(found),
                "Sick models that were not flagged:",
                "\n".join(lines) or "- none",
                "Healthy models that were flagged:",
                "\n".join(alarms) or "- none",
                "## The models",
                "| model | must be flagged by |\n|---|---|\n" + "\n".join(listed),
            ]
        )
        + "\n"
    )


@dataclass(frozen=True)
class Named:
    name: str
    sick: tuple[str, ...]


def sorted_subjects(found: tuple[Verdict, ...]) -> list[Named]:
    names = dict.fromkeys(v.subject for v in found)
    return [Named(n, tuple(v.check for v in found if v.subject == n and v.sick)) for n in names]


INTRODUCTION = """# Calibration of the checks

Every check is run on small models whose state of health is known: healthy ones, many of them with
every answer in closed form, and sick ones, made by mistakes that people make. *Sick* counts where
a check must give a warning or a problem, *healthy* where it must not. Side effects of a mistake
that are true of the model (a collapsed model is also poorly scaled, say) are not counted. Of 160
datapoints and K = 500 samples (AIS: 20 datapoints and 20 temperatures; best posteriors of 24
datapoints; 3000 draws of the prior against 600 posteriors) an *undecided* is an honest answer; more
of all decides it.

Some thresholds, and the question of which checks a model counts for, were settled while looking
at these very models: on models of your own the checks will err more often than the table says.

This table was written by the command

    python tests/diagnostics/zoo.py --write

and `tests/diagnostics/test_calibration_*.py` keep it true."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="write docs/calibration.md")
    start = time.perf_counter()
    found = tuple(verdicts((*FIRST, *SECOND)))
    for v in found:
        print(f"{'  ' if v.sick is v.flagged else '!!'} {'sick' if v.sick else 'well'} {v}")
    print(f"\n{table(found)}\n\n{time.perf_counter() - start:.0f} s")
    if parser.parse_args().write:
        page = Path(__file__).parents[2] / "docs" / "calibration.md"
        page.write_text(document(found), encoding="utf-8")


if __name__ == "__main__":
    main()
