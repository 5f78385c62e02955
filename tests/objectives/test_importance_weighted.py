import pytest
import torch

from elboscope.core import InputError, effective_sample_size, log_weights, seeded
from elboscope.models import LinearGaussian, mlp_vae
from elboscope.objectives import ciwae, dreg, elbo, iwae, miwae, piwae
from elboscope.training import Minibatch, objective_step

ONE_X = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
KNOWN = {2: -3.73402, 5: -3.71412, 8: -3.70834, 10: -3.70622, 50: -3.69869, 64: -3.69817}


@pytest.mark.parametrize(("K", "truth"), KNOWN.items())
def test_the_mean_of_the_bound_is_the_known_one(K, truth):
    model = LinearGaussian.instance_1()
    with seeded(K), torch.no_grad():
        value = iwae(model, ONE_X.expand(20_000, 3), K).value
    error = value.std().item() / 20_000**0.5
    assert abs(value.mean().item() - truth) < 3.5 * (error**2 + 3e-5**2) ** 0.5


def test_one_sample_is_the_elbo_exactly():
    model, x = LinearGaussian.instance_1(), ONE_X.expand(100, 3)
    with seeded(0):
        one = iwae(model, x, 1)
    with seeded(0):
        plain = elbo(model, x)
    torch.testing.assert_close(one.value, plain.value, rtol=0, atol=1e-14)
    for a, b in zip(*(torch.autograd.grad(o.loss, model.W) for o in (one, plain)), strict=True):
        torch.testing.assert_close(a, b)


def test_at_the_posterior_every_bound_is_log_p():
    model = LinearGaussian.instance_1().with_exact_posterior()
    for K in (1, 7):
        torch.testing.assert_close(
            iwae(model, ONE_X, K).value, model.log_likelihood(ONE_X).detach()
        )


def test_the_gradient_is_the_weighted_one():
    """∇ log (1/K) Σ w_k = Σ w̃_k ∇ log w_k, with the weights held fixed."""
    model, x = LinearGaussian.instance_1(), ONE_X.expand(6, 3)
    with seeded(0):
        (fast,) = torch.autograd.grad(iwae(model, x, 5).loss, model.W)
    with seeded(0):
        log_w = log_weights(model, x, 5)
    weights = log_w.softmax(0).detach()
    (slow,) = torch.autograd.grad(-(weights * log_w).sum(0).mean(), model.W)
    torch.testing.assert_close(fast, slow)
    assert effective_sample_size(log_w.detach()).min() < 4.9


def test_the_gap_falls_like_chi_square_over_two_k():
    model = LinearGaussian.instance_1()
    truth, chi_square = model.log_likelihood(ONE_X).item(), model.importance_variance(ONE_X).item()
    gap = truth - KNOWN[64]
    assert gap == pytest.approx(chi_square / 128, rel=0.15)


def test_float32_models_report_in_their_dtype():
    model = LinearGaussian(torch.ones(3, 2), torch.zeros(3), 0.5)
    assert iwae(model, torch.zeros(4, 3), 3).value.dtype == torch.float32


def drawn(objective, *arguments):
    model, x = LinearGaussian.instance_1(), ONE_X.expand(30, 3)
    with seeded(5):
        return model, objective(model, x, *arguments)


@pytest.mark.parametrize(
    ("reduced", "to"),
    [
        ((miwae, 1, 6), (iwae, 6)),
        ((miwae, 6, 1), (elbo, 6)),
        ((piwae, 1, 6), (iwae, 6)),
        ((ciwae, 6, 0.0), (iwae, 6)),
        ((ciwae, 6, 1.0), (elbo, 6)),
    ],
)
def test_exact_reductions(reduced, to):
    for encoder in (False, True):
        model, a = drawn(*reduced)
        other, b = drawn(*to)
        torch.testing.assert_close(a.value, b.value, rtol=0, atol=1e-12)
        losses = [
            o.loss if o.encoder_loss is None or not encoder else o.encoder_loss for o in (a, b)
        ]
        names = [n for n, _ in model.named_parameters() if n.startswith("encoder") == encoder]
        for m, loss in ((model, losses[0]), (other, losses[1])):
            m.zero_grad()
            loss.backward()
        for name in names:
            g, h = (dict(m.named_parameters())[name].grad for m in (model, other))
            torch.testing.assert_close(g, h)


def test_piwae_of_single_samples_gives_the_encoder_the_elbo():
    _, a = drawn(piwae, 6, 1)
    _, b = drawn(elbo, 6)
    _, c = drawn(iwae, 6)
    torch.testing.assert_close(a.encoder_loss, b.loss)
    torch.testing.assert_close(a.loss, c.loss)


@pytest.mark.parametrize(("M", "K"), [(2, 8), (8, 2)])
def test_groups_and_samples_are_not_exchanged(M, K):
    """The mean of MIWAE(M, K) is L_K whatever M: L_2 and L_8 differ by 0.026 nats."""
    model = LinearGaussian.instance_1()
    with seeded(M), torch.no_grad():
        value = miwae(model, ONE_X.expand(20_000, 3), M, K).value
    error = (value.var().item() / 20_000 + 3e-5**2) ** 0.5
    assert abs(value.mean().item() - KNOWN[K]) < 3.5 * error
    assert abs(value.mean().item() - KNOWN[M]) > 10 * error


def test_the_mixture_of_bounds_has_the_mixture_of_their_means():
    model, elbo_truth = LinearGaussian.instance_1(), -3.7639911095
    with seeded(0), torch.no_grad():
        value = ciwae(model, ONE_X.expand(20_000, 3), 8, 0.25).value
    error = (value.var().item() / 20_000 + 3e-5**2) ** 0.5
    assert abs(value.mean().item() - (0.25 * elbo_truth + 0.75 * KNOWN[8])) < 3.5 * error


def test_one_step_gives_encoder_and_decoder_their_own_gradients():
    """Not the sum of both losses' gradients to the encoder, as two backward calls would give."""
    x, _ = LinearGaussian.instance_1().sample(12, seed=0)
    moved = {}
    for name, objective in (("piwae", piwae), ("miwae", miwae), ("iwae", None)):
        model = LinearGaussian.instance_1()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

        def bound(model, x, epoch, objective=objective):
            return iwae(model, x, 6) if objective is None else objective(model, x, 2, 3)

        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        with seeded(9):
            objective_step(model, bound, optimizer)(Minibatch(x, 1.0))
        moved[name] = {n: p.detach() - before[n] for n, p in model.named_parameters()}
    for name, step in moved["piwae"].items():
        torch.testing.assert_close(
            step, moved["miwae" if name.startswith("encoder") else "iwae"][name]
        )
    assert not torch.allclose(moved["miwae"]["encoder.c"], moved["iwae"]["encoder.c"])


@pytest.mark.parametrize("beta", [-0.1, 1.5, float("nan")])
def test_a_mixture_outside_the_unit_interval_is_no_bound(beta):
    with pytest.raises(InputError, match=r"beta: expected a share of the ELBO in \[0, 1\]"):
        ciwae(LinearGaussian.instance_1(), ONE_X, 4, beta)


@pytest.mark.parametrize(
    "objective", [lambda m, x, _: piwae(m, x, 2, 4), lambda m, x, _: dreg(m, x, 4)]
)
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_the_other_part_learns_where_one_is_frozen(objective, part):
    model, x = mlp_vae((3,), 2, (4,)), torch.ones(5, 3)
    other = {"encoder": "decoder", "decoder": "encoder"}[part]
    getattr(model, part).requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(getattr(model, other).parameters(), lr=0.1)
    objective_step(model, objective, optimizer)(Minibatch(x, 1.0))
    moved = {
        name.split(".")[0]
        for (name, p), old in zip(model.named_parameters(), before, strict=True)
        if not torch.equal(p, old)
    }
    assert moved == {other}
