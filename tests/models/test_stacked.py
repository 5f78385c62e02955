"""A stack of S models trains as S models do, each alone."""

from functools import partial

import pytest
import torch

from elboscope import objectives
from elboscope.core import InputError, log_weights, seeded
from elboscope.models import hierarchical_vae, member, mlp_vae, stack

S, B, K = 3, 4, 6


def plain():
    return mlp_vae((5,), 2, (8, 7), "tanh")


def layered():
    return hierarchical_vae((5,), (3, 2), ((8,), (6,)))


@pytest.fixture(params=[plain, layered])
def singles(request):
    with seeded(0):
        return [request.param() for _ in range(S)]


class SharedNoise:
    """Standard normal draws (K, rows, d), the same for a member alone and in its stack."""

    def __init__(self):
        self.step, self.alone = 0, None

    def __call__(self, shape, dtype, device):
        K, rows, d = shape
        members = range(S) if self.alone is None else [self.alone]
        shape = (K, rows // len(members), d)
        return torch.cat([self._of(s, shape) for s in members], dim=1).to(dtype)

    def _of(self, s, shape):
        seed = 1000 * self.step + 10 * s + shape[-1]
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def noise(monkeypatch):
    shared = SharedNoise()
    monkeypatch.setattr("torch.distributions.normal._standard_normal", shared)
    return shared


def data(step):
    generator = torch.Generator().manual_seed(step)
    return torch.bernoulli(torch.full((S * B, 5), 0.4), generator=generator)


def step(model, objective, optimizer, x, scale):
    bound = objective(model, x)
    named = dict(model.named_parameters())
    encoder = [p for n, p in named.items() if n.startswith("encoder")]
    decoder = [p for n, p in named.items() if not n.startswith("encoder")]
    losses = [bound.loss, bound.loss if bound.encoder_loss is None else bound.encoder_loss]
    for loss, wrt in zip(losses, [decoder, encoder], strict=True):
        for p, g in zip(
            wrt, torch.autograd.grad(scale * loss, wrt, retain_graph=True), strict=True
        ):
            p.grad = g
    optimizer.step()
    return bound.value


OBJECTIVES = [
    objectives.elbo,
    partial(objectives.iwae, num_samples=K),
    partial(objectives.piwae, num_outer=2, num_samples=3),
    partial(objectives.dreg, num_samples=K),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["elbo", "iwae", "piwae", "dreg"])
def test_training_a_stack_is_training_each_member_alone(singles, noise, objective):
    stacked = stack(singles)
    make = partial(torch.optim.Adam, lr=0.01, eps=1e-4)
    together, alone = make(stacked.parameters()), [make(m.parameters()) for m in singles]
    for t in range(5):
        x, noise.step, noise.alone = data(t), t, None
        value = step(stacked, objective, together, x, S)
        for s, single in enumerate(singles):
            noise.alone = s
            rows = slice(s * B, (s + 1) * B)
            expected = step(single, objective, alone[s], x[rows], 1)
            torch.testing.assert_close(value[rows], expected, atol=2e-5, rtol=0)
    for s, single in enumerate(singles):
        trained = member(stacked, s).state_dict()
        for name, value in single.state_dict().items():
            torch.testing.assert_close(trained[name], value, atol=5e-5, rtol=0)


def test_a_stack_without_the_factor_would_feel_eps(noise):
    """The test above notices a mean over S·B rows that is not scaled by S."""
    with seeded(0):
        singles = [plain() for _ in range(S)]
    stacked = stack(singles)
    step(stacked, objectives.elbo, torch.optim.Adam(stacked.parameters(), eps=1e-4), data(0), 1)
    noise.alone = 0
    step(singles[0], objectives.elbo, torch.optim.Adam(singles[0].parameters(), eps=1e-4),
         data(0)[:B], 1)  # fmt: skip
    trained = member(stacked, 0).state_dict()
    largest = max((trained[n] - v).abs().max() for n, v in singles[0].state_dict().items())
    assert largest > 2e-4


def densities(model, x, z):
    return torch.stack(
        [
            model.encode(x).log_prob(z),
            model.decode(z).log_prob(x),
            model.prior().log_prob(z).expand(z.shape[:-1]),
        ]
    )


def test_members_answer_as_the_models_they_were_made_of(singles):
    stacked, x = stack(singles), data(0)
    z = torch.randn(K, S * B, *singles[0].latent_shape, generator=torch.Generator().manual_seed(0))
    together = densities(stacked, x, z)
    for s, single in enumerate(singles):
        rows = slice(s * B, (s + 1) * B)
        alone = densities(member(stacked, s), x[rows], z[:, rows])
        assert torch.equal(alone, densities(single, x[rows], z[:, rows]))
        torch.testing.assert_close(together[..., rows], alone, atol=1e-6, rtol=1e-6)


def test_the_loss_of_one_member_has_no_gradient_for_another(singles):
    stacked = stack(singles)
    with seeded(1):
        log_w = log_weights(stacked, data(0), K)
    log_w[:, :B].logsumexp(0).mean().backward()
    for p in stacked.parameters():
        assert p.grad[0].abs().max() > 0
        assert not p.grad[1:].any()


def test_what_cannot_be_stacked_is_named(singles):
    with pytest.raises(InputError, match=r"models: expected VAEs built alike.*got none"):
        stack([])
    with pytest.raises(InputError, match=r"built alike.*\(5,\).*\(6,\)"):
        stack([mlp_vae((5,), 2), mlp_vae((6,), 2)])
    with pytest.raises(InputError, match="likelihood without parameters"):
        stack([mlp_vae((5,), 2, likelihood="gaussian", scale="learned")])
    frozen = plain()
    frozen.decoder.requires_grad_(False)
    with pytest.raises(InputError, match="no frozen weights"):
        stack([frozen])
    with pytest.raises(InputError, match="a number from 0 to 2; got 3"):
        member(stack(singles), 3)
