"""Whose loss, whose parameters: every turn of every game, bit for bit and by its formula."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from players import GAMES, NAMES, Watched, avb, critic, data, gan, hybrid, judged
from torch import Tensor
from torch.nn.functional import softplus

from elboscope.core import InputError, generated, log_weights, seeded
from elboscope.distributions import ImplicitPosterior
from elboscope.models import LinearGaussian, mlp_gan
from elboscope.objectives import maximum_mean_discrepancy
from elboscope.training import (
    AAE,
    AVB,
    VEEGAN,
    VGH,
    WAEGAN,
    WAEMMD,
    WGANGP,
    GANGame,
    MatchedELBO,
    Minibatch,
    TrainingSettings,
    VGHPlusPlus,
    adversarial_step,
    contrast,
    game_optimizer,
    train,
)
from elboscope.training.games.adversarial import Cost
from elboscope.training.games.base import require_words

ADVERSARIES = ("data", "code", "joint")


def turns_of(game, model, x, seed=0):  # type: ignore[no-untyped-def]
    """All turns, no one being stepped, by name; several of one player as a list."""
    with seeded(seed):
        found: dict[str, list] = {}
        for turn in game.turns(model, x, 0.5):
            found.setdefault(turn.player, []).append(turn)
    return {name: turns[0] if len(turns) == 1 else turns for name, turns in found.items()}


@pytest.mark.parametrize(("game", "build"), GAMES, ids=NAMES)
def test_a_turn_moves_its_players_and_no_one_else_bit_for_bit(game, build) -> None:
    model, x = build(), data(20)
    players = game.players(model)
    everybody = {name: p for name, p in model.named_parameters() if p.requires_grad}
    shared = [p for group in players.values() for p in group]
    assert len(shared) == len({id(p) for p in shared})
    assert {id(p) for p in shared} == {id(p) for p in everybody.values()}
    kept: list[dict[str, Tensor]] = []
    turns = []

    def before(turn) -> None:  # type: ignore[no-untyped-def]
        kept.append({name: p.detach().clone() for name, p in everybody.items()})

    def after(turn) -> None:  # type: ignore[no-untyped-def]
        movers = {id(p) for name in turn.moves or (turn.player,) for p in players[name]}
        changed = {n for n, p in everybody.items() if not torch.equal(p, kept[-1][n])}
        assert changed <= {n for n, p in everybody.items() if id(p) in movers}
        assert changed, "a player that does not move"
        turns.append(turn)

    watched = Watched(game=game, before=before, after=after)
    step = adversarial_step(model, watched, game_optimizer(watched, model))
    with seeded(0):
        for _ in range(3):
            step(Minibatch(x, 0.5))
    assert {t.player for t in turns} == {c.removesuffix("_loss") for c in game.columns
                                        if c.endswith("_loss")}  # fmt: skip


@pytest.mark.parametrize(("game", "build"), GAMES, ids=NAMES)
def test_adversaries_learn_from_detached_draws(game, build) -> None:
    model, x = build(), data(20)
    theirs = {id(p) for m in model.adversaries.values() for p in m.parameters()}
    makers = [p for p in model.parameters() if id(p) not in theirs]
    with seeded(0):
        for turn in game.turns(model, x, 0.5):
            used = torch.autograd.grad(turn.loss, makers, allow_unused=True, retain_graph=True)
            assert any(g is not None for g in used) == (turn.player not in ADVERSARIES)


def test_data_and_fakes_meet_an_adversary_in_batches_of_their_own() -> None:
    x = data(20)
    for game, build in GAMES:
        model = build()
        if "data" not in game.adversaries or isinstance(game, WGANGP):
            continue
        judge = judged(model, data=lambda x: x.sum(1), code=lambda z: z.sum(1))
        with seeded(0):
            list(game.turns(judge, x, 0.5))
        shown = [given[0] for given in judge.adversaries["data"].shown]
        assert all(len(batch) == len(x) for batch in shown)
        assert sum(torch.equal(batch, x) for batch in shown) == 1


def test_running_statistics_are_of_one_source_after_the_other() -> None:
    model, x = gan(), data(20)
    norm = model.discriminator[0][1]
    norm.momentum = 0.5
    with seeded(0):
        turns = GANGame().turns(model, x, 0.5)
        z = model.prior().sample((20,))
    with seeded(0):
        next(turns)
    first = model.discriminator[0][0]
    with torch.no_grad():
        fake = model.generate(z)
        means = [first(batch).mean(0) for batch in (x, fake)]
    expected = 0.5 * (0.5 * means[0]) + 0.5 * means[1]  # from 0, data first, then fakes
    assert norm.num_batches_tracked == 2
    torch.testing.assert_close(norm.running_mean, expected)


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        ("non_saturating", lambda t: softplus(-t)),
        ("saturating", lambda t: -softplus(t)),
        ("reverse_kl", lambda t: -t),
    ],
)
def test_gan_losses(loss, formula) -> None:
    logit = lambda x: x.sum(1) - 1  # noqa: E731
    model, x = judged(critic(), data=logit), data(20)
    found = turns_of(GANGame(loss), model, x)
    with seeded(0):
        fake = model.generate(model.prior().sample((20,)))
    expected = softplus(-logit(x)).mean() + softplus(logit(fake)).mean()
    torch.testing.assert_close(found["data"].loss, expected)
    torch.testing.assert_close(found["generator"].loss, formula(logit(fake)).mean())
    hits = 0.5 * ((logit(x) > 0).float() + 0.5 * (logit(x) == 0)).mean()
    hits = hits + 0.5 * (logit(fake) < 0).float().mean()
    torch.testing.assert_close(found["data"].observed["data_accuracy"], hits)


def test_wgan_gp_of_a_linear_critic() -> None:
    w = torch.linspace(-1, 2, 6)
    model, x = judged(critic(), data=lambda x: x @ w), data(21)
    turns = turns_of(WGANGP(critic_steps=4, penalty=7.0), model, x)
    seen = torch.cat([given[0] for given in model.adversaries["data"].shown[0:12:3]])
    assert torch.equal(seen, x)  # each datapoint in one step of the critic
    with seeded(0):
        for turn, real in zip(turns["data"], x.tensor_split(4), strict=True):
            fake = model.generate(model.prior().sample((len(real),)))
            torch.rand(len(real))  # the mixing α
            penalty = (w.norm() - 1) ** 2
            difference = (fake @ w).mean() - (real @ w).mean()
            torch.testing.assert_close(turn.loss, difference + 7 * penalty)
            torch.testing.assert_close(turn.observed["critic_difference"], -difference.detach())
        fake = model.generate(model.prior().sample((5,)))
    torch.testing.assert_close(turns["generator"].loss, -(fake @ w).mean())
    assert [t.player for t in WGANGP().turns(model, x[:3], 0.0)] == ["data", "generator"]


def drawn(model, x, *, z_first=True):  # type: ignore[no-untyped-def]
    """z, ẑ, x̂ and G(z) of the seed that ``turns_of`` uses."""
    with seeded(0):
        if z_first:
            z, code = model.prior().sample((len(x),)), model.encode(x).rsample()
        else:
            code, z = model.encode(x).rsample(), model.prior().sample((len(x),))
    return z, code, model.decode(code), generated(model, z)


CODE, DATA = (lambda z: 2 * z.sum(1) + 0.3), (lambda x: x.sum(1) - 2.5)


@pytest.mark.parametrize("cost", ["likelihood", "squared", "absolute", "mean_absolute"])
@pytest.mark.parametrize("samples", [False, True], ids=["VGH", "VGH++"])
def test_losses_of_the_hybrids(samples, cost) -> None:
    model, x = judged(hybrid("data", "code")(), data=DATA, code=CODE), data(20)
    game = VGHPlusPlus(5.0, 50.0, cost, fake_weight=0.5) if samples else VGH(5.0, 50.0, cost)
    found = turns_of(game, model, x)
    z, code, p, made = drawn(model, x)
    distance = {
        "likelihood": -p.log_prob(x),
        "squared": (x - p.mean).square().sum(1),
        "absolute": (x - p.mean).abs().sum(1),
        "mean_absolute": (x - p.mean).abs().mean(1),
    }[cost].mean()
    L_enc = 5 * distance + softplus(-CODE(code)).mean()
    L_gen = 50 * distance + softplus(-DATA(p.mean)).mean()
    L_D = softplus(-DATA(x)).mean() + (0.5 if samples else 1) * softplus(DATA(p.mean)).mean()
    if samples:
        L_gen = L_gen + softplus(-DATA(made)).mean()
        L_D = L_D + 0.5 * softplus(DATA(made)).mean()
    L_C = softplus(-CODE(z)).mean() + softplus(CODE(code)).mean()
    expected = {"encoder": L_enc, "generator": L_gen, "data": L_D, "code": L_C}
    shift = math.log(0.5 * 2) if samples else 0.0  # the best logit where all agree
    fakes = [p.mean, made] if samples else [p.mean]
    hits = [(DATA(x) + shift > 0).float().mean() + (DATA(f) + shift < 0).float().mean()
            for f in fakes]  # fmt: skip
    accuracy = found["data"].observed["data_accuracy"]
    torch.testing.assert_close(accuracy, 0.5 * torch.stack(hits).mean())
    assert list(found) == list(expected)  # algorithm 5
    for name, loss in expected.items():
        torch.testing.assert_close(found[name].loss, loss)
    encoder = list(model.encoder.parameters())
    ours = torch.autograd.grad(found["encoder"].loss, encoder)
    torch.testing.assert_close(ours, torch.autograd.grad(L_enc, encoder))


def test_losses_of_aae_and_wae() -> None:
    model, x = judged(hybrid("code")(), code=CODE), data(20)
    found = turns_of(AAE(), model, x)
    with seeded(0):
        first = model.encode(x).rsample()
        z, code = model.prior().sample((20,)), model.encode(x).rsample()
    torch.testing.assert_close(found["autoencoder"].loss, -model.decode(first).log_prob(x).mean())
    L_C = softplus(-CODE(z)).mean() + softplus(CODE(code)).mean()
    torch.testing.assert_close(found["code"].loss, L_C)
    torch.testing.assert_close(found["encoder"].loss, softplus(-CODE(code)).mean())
    z, code, p, _ = drawn(model, x)
    squared = (x - p.mean).square().sum(1).mean()
    found = turns_of(WAEGAN(3.0), model, x)
    torch.testing.assert_close(
        found["autoencoder"].loss, squared + 3 * softplus(-CODE(code)).mean()
    )
    torch.testing.assert_close(
        found["code"].loss, softplus(-CODE(z)).mean() + softplus(CODE(code)).mean()
    )
    found = turns_of(WAEMMD(3.0), model, x)
    mmd = maximum_mean_discrepancy(code, z)
    torch.testing.assert_close(found["autoencoder"].loss, squared + 3 * mmd)


def test_losses_of_veegan() -> None:
    logit = lambda x, z: x.sum(1) - z.sum(1)  # noqa: E731
    model, x = judged(hybrid("joint")(), joint=logit), data(20)
    with seeded(0):
        z = model.prior().sample((20,))
        made = generated(model, z)
        again, code = model.encode(made).rsample(), model.encode(x).rsample()
    error = (z - again).square().sum(1).mean()
    bound = logit(made, z).mean() + 2 * error
    for through, expected in ((False, bound), (True, bound - logit(x, code).mean())):
        found = turns_of(VEEGAN(2.0, through_data=through), model, x)
        torch.testing.assert_close(found["autoencoder"].loss, expected)
    L_T = softplus(-logit(made, z)).mean() + softplus(logit(x, code)).mean()
    torch.testing.assert_close(found["joint"].loss, L_T)


def linear(implicit: bool, seed: int = 3) -> LinearGaussian:
    """A model whose KL is known, with a mistuned posterior that may hide its density."""
    with seeded(seed):
        model = LinearGaussian.instance_1().with_mistuned_posterior(0.2, 1.5)
    model.data_shape = (3,)
    if implicit:
        explicit = model.encode
        object.__setattr__(model, "explicit", explicit)

        def encode(x: Tensor) -> ImplicitPosterior:
            q = explicit(x)
            moments = lambda: (q.mean, q.variance)  # noqa: E731
            draw = lambda K: q.rsample((K,))  # noqa: E731
            return ImplicitPosterior(draw, q.batch_shape, q.event_shape, moments)

        model.encode = encode
    return model


@pytest.mark.parametrize("implicit", [False, True])
def test_avb_at_the_best_logit_is_the_elbo(implicit: bool) -> None:
    """T* = log q − log p: the loss is −ELBO exactly, its gradient that of a frozen density."""
    model = linear(implicit)
    explicit = model.explicit if implicit else model.encode
    frozen = linear(False).encode  # the same numbers, others' parameters
    model = judged(model, joint=lambda x, z: frozen(x).log_prob(z) - model.prior().log_prob(z))
    x, _ = model.sample(4000, seed=1)
    loss = turns_of(AVB(adaptive_contrast=False), model, x)["autoencoder"].loss
    twin = linear(False)
    with seeded(0):
        elbo = log_weights(twin, x, 1, freeze=True)[0].mean()
    torch.testing.assert_close(loss, -elbo)
    exact = twin.elbo(x, explicit(x).expand((4000,))).mean()
    error = turns_of(AVB(adaptive_contrast=False), model, x, seed=5)["autoencoder"].loss + exact
    assert abs(error) < 4 * 1.5 / math.sqrt(4000)
    names = [n for n, p in twin.named_parameters() if p.requires_grad]
    mine = dict(model.named_parameters())
    ours = torch.autograd.grad(loss, [mine[n] for n in names], allow_unused=True)
    theirs = torch.autograd.grad(-elbo, [dict(twin.named_parameters())[n] for n in names],
                                 allow_unused=True)  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("implicit", [False, True])
def test_adaptive_contrast_adds_what_the_gaussian_knows(implicit: bool) -> None:
    """KL = T(x, z̃) + log r − log p, with T between q and r in normalised coordinates."""
    model, plain = linear(implicit), linear(False)
    x, _ = plain.sample(50, seed=1)
    r = contrast(plain.encode(x))

    def best(x: Tensor, normalised: Tensor) -> Tensor:
        z = r.mean + r.scale * normalised
        return plain.encode(x).log_prob(z) - r.log_prob(z)

    model = judged(model, joint=best)
    found = turns_of(AVB(), model, x)
    with seeded(0):
        elbo = log_weights(plain, x, 1)[0].mean()
    torch.testing.assert_close(found["autoencoder"].loss, -elbo)
    shown = model.adversaries["joint"].shown
    assert len(shown) == 3  # by encoder and decoder, then q's draws, then the Gaussian's
    with seeded(0):
        z = plain.encode(x).rsample()
    torch.testing.assert_close(shown[1][1], (z - r.mean) / r.scale)
    gaussian = torch.distributions.Normal(r.mean, r.scale)
    torch.testing.assert_close(r.log_prob(z), gaussian.log_prob(z).sum(1))
    torch.testing.assert_close(r.scale**2, plain.encode(x).variance + 1e-4)
    assert not r.mean.requires_grad
    assert not r.scale.requires_grad


def test_labels_of_the_joint_adversary_of_avb() -> None:
    """Label 1 for the posterior: at T* its loss is lower than with the labels exchanged."""
    x, _ = linear(False).sample(500, seed=1)
    for sign, better in ((1.0, True), (-1.0, False)):
        model = linear(False)
        q, p = linear(False), model.prior()
        best = lambda x, z, s=sign, q=q, p=p: s * (q.encode(x).log_prob(z) - p.log_prob(z))  # noqa: E731
        loss = turns_of(AVB(adaptive_contrast=False), judged(model, joint=best), x)["joint"].loss
        assert (loss < 2 * math.log(2)) == better


def test_matched_elbo_is_an_elbo_with_a_judge_of_samples() -> None:
    model, x = judged(hybrid("data")(), data=DATA), data(20)
    found = turns_of(MatchedELBO(3.0), model, x)
    with seeded(0):
        log_w = log_weights(model, x, 1)[0].mean()
        made = generated(model, model.prior().sample((20,)))
    torch.testing.assert_close(found["autoencoder"].observed["train_bound"], log_w.detach())
    expected = -log_w + 3 * softplus(-DATA(made)).mean()
    torch.testing.assert_close(found["autoencoder"].loss, expected)
    L_D = softplus(-DATA(x)).mean() + softplus(DATA(made)).mean()
    torch.testing.assert_close(found["data"].loss, L_D)


def test_matched_elbo_judges_reconstructions_without_the_encoder() -> None:
    """Encoder: the gradient of −ELBO; decoder: of what D says too; D: the mean over both fakes."""
    model, x = judged(hybrid("data")(), data=DATA), data(20)
    found = turns_of(MatchedELBO(3.0, 5.0), model, x)
    with seeded(0):
        log_w = log_weights(model, x, 1)[0].mean()
        made = generated(model, model.prior().sample((20,)))
        again = generated(model, model.encode(x).rsample().detach())
    judgement = 3 * softplus(-DATA(made)).mean() + 5 * softplus(-DATA(again)).mean()
    loss = found["autoencoder"].loss
    torch.testing.assert_close(loss, judgement - log_w)
    torch.testing.assert_close(found["autoencoder"].observed["train_bound"], log_w.detach())
    for part, expected in ((model.encoder, -log_w), (model.decoder, judgement - log_w)):
        parameters = list(part.parameters())
        ours = torch.autograd.grad(loss, parameters, retain_graph=True)
        theirs = torch.autograd.grad(expected, parameters, retain_graph=True)
        torch.testing.assert_close(ours, theirs)
    L_D = softplus(-DATA(x)).mean()
    L_D = L_D + 0.5 * (softplus(DATA(made)).mean() + softplus(DATA(again)).mean())
    torch.testing.assert_close(found["data"].loss, L_D)
    right = [(DATA(x) > 0).float().mean() + (DATA(f) < 0).float().mean() for f in (made, again)]
    accuracy = found["data"].observed["data_accuracy"]
    torch.testing.assert_close(accuracy, 0.5 * torch.stack(right).mean())


def test_rates_of_players() -> None:
    model, game = avb(), AVB(adversary_rate=2.0)
    optimizer = game_optimizer(game, model)
    step = adversarial_step(model, game, optimizer, learning_rate=lambda epoch: 0.1 * epoch)
    step(Minibatch(data(10), 0.5))
    rates = {group["player"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {"encoder": 0.05, "generator": 0.05, "joint": 0.1}


def test_a_frozen_player_stands_still() -> None:
    model = hybrid("data", "code")()
    model.encoder.requires_grad_(False)
    kept = {name: p.clone() for name, p in model.state_dict().items()}
    step = adversarial_step(model, VGH(), game_optimizer(VGH(), model))
    step(Minibatch(data(10), 0.5))
    same = {n: torch.equal(p, kept[n]) for n, p in model.state_dict().items()}
    assert all(same[n] == n.startswith("encoder") for n in same)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_gan_finds_a_gaussian(seed: int) -> None:
    """N(2, 0.5²) by an affine generator: it circles around the truth, from far away."""
    with seeded(seed):
        model = mlp_gan((1,), 1, (), (16, 16), output="linear")
        x = 2 + 0.5 * torch.randn(2000, 1)
    layer = model.generator[0]
    assert layer.bias.item() < 1
    settings = TrainingSettings(
        epochs=40, batch_size=100, objective=GANGame(adversary_rate=5.0), learning_rate=0.005,
        betas=(0.5, 0.9), tensorboard=False, validation_fraction=0.0, seed=seed,
    )  # fmt: skip
    result = train(model, x, settings)
    assert abs(layer.bias.item() - 2) < 0.15
    assert abs(abs(layer.weight.item()) - 0.5) < 0.15
    assert abs(result.history[-1]["data_accuracy"] - 0.5) < 0.1


def test_messages() -> None:
    x = data(20)
    with pytest.raises(InputError, match="an adversary 'code', against which AAE plays; got a"):
        train(hybrid("data")(), x, TrainingSettings(objective=AAE()))
    with pytest.raises(InputError, match="adversary 'joint', against which VEEGAN plays; got no "):
        VEEGAN().players(hybrid()())
    with pytest.raises(InputError, match="model: expected an encoder, and data_shape"):
        AAE().players(judged(critic(), code=CODE))
    with pytest.raises(InputError, match=r"patience: expected none for a game \(GANGame\); got 3"):
        train(gan(), x, TrainingSettings(objective=GANGame(), patience=3))
    with pytest.raises(InputError, match=r"likelihood, without which there is no ELBO; got GAN, "):
        train(gan(), x, TrainingSettings())
    with pytest.raises(InputError, match=r"condition_train: expected none for a game"):
        train(gan(), x, TrainingSettings(objective=GANGame()), condition_train=x)
    with pytest.raises(InputError, match="cost: expected one of likelihood, squared"):
        require_words("cost", "l1", get_args(Cost))
    with pytest.raises(InputError, match="encoder_weight: expected a finite number ≥ 0; got -1"):
        VGH(-1.0)
    with pytest.raises(InputError, match="adversary_rate: expected a finite number > 0; got 0"):
        VGH(adversary_rate=0.0)
    with pytest.raises(InputError, match="adversary_rate: expected a finite number > 0; got inf"):
        GANGame(adversary_rate=math.inf)
    with pytest.raises(InputError, match="reconstruction_weight: expected a finite number ≥ 0"):
        MatchedELBO(reconstruction_weight=-1.0)
    with pytest.raises(InputError, match="critic_steps: expected at least 1; got 0"):
        WGANGP(critic_steps=0)
    with pytest.raises(InputError, match=r"'data': expected a critic without batch norm"):
        train(gan(), x, TrainingSettings(objective=WGANGP()))
    with pytest.raises(InputError, match="batch_size: expected at least 2, for the model's batch"):
        train(gan(), x, TrainingSettings(objective=GANGame(), batch_size=1))
    with pytest.raises(InputError, match="batch_size: expected at least 2: MMD² compares pairs"):
        train(hybrid()(), x, TrainingSettings(objective=WAEMMD(), batch_size=1))
    with pytest.raises(InputError, match="penalty: expected a finite number ≥ 0; got inf"):
        WGANGP(penalty=math.inf)
    with pytest.raises(InputError, match="adversary_steps: expected at least 1"):
        AVB(adversary_steps=0)
