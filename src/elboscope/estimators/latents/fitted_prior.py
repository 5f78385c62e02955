r"""Ex-post density estimation: a density fitted to q(z) instead of the prior.

.. math:: L_r(x) - L_p(x) = \mathbb{E}_{q(z|x)}[\log r(z) - \log p(z)], \qquad
          \mathbb{E}_x[\,\cdot\,] = \mathrm{KL}(q(z) \| p(z)) - \mathrm{KL}(q(z) \| r(z))

Encoder and decoder stay as they are, so that the reconstruction cancels and the gain of the bound
is that of the prior alone: at most the marginal KL, and all of it where r is q(z). On the
datapoints that r was fitted to, q is the mixture q_N of their N posteriors, whose own marginal KL
is the limit; a rich r can come near it by learning the N datapoints. So r is fitted to one part of
the datapoints, chosen on a second, and its gain reported on a third.

The bound of the new model is a bound on *its* log p(x) = log ∫ r(z) p(x|z) dz: samples are drawn
from r, and no number of the old model's holds for the new one.
"""

from __future__ import annotations

__all__ = ["FittedPriorModel", "PriorDensity", "fit_prior"]

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions import AffineTransform, Distribution, TransformedDistribution
from torch.distributions.transforms import ReshapeTransform

from elboscope.core import (
    Estimate,
    InputError,
    LatentVariableModel,
    evaluating,
    given,
    seeded,
    standard_error,
)
from elboscope.distributions import FlowPosterior, standard_normal

from ..inputs import require_positive
from .aggregate import averages
from .aggregate_parts import Part, Parts, require_volume, split_aggregate
from .density import FlowDensity, fit_network
from .held_out import Covariance, mixture_distribution, one_thread

PriorDensity = Literal["gmm", "flow"]
# (components, covariance), where the datapoints suffice for the parameters.
MIXTURES: tuple[tuple[int, Covariance], ...] = (
    *((1, "diag"), (1, "full"), (10, "diag"), (10, "full"), (50, "diag")),
)
LARGEST_FULL = 200


def fit_prior(
    model: LatentVariableModel,
    x: object,
    family: PriorDensity = "gmm",
    *,
    x_train: object = None,
    max_steps: int = 2000,
    seed: int | None = None,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
) -> FittedPriorModel:
    r"""Returns the model with a prior fitted to its aggregate posterior q(z).

    Nothing is trained but the prior, and the model itself is not changed. What the new prior does
    not repair: codes that carry no information, and a decoder that ignores them.

    Args:
        model: The model, with an encoder.
        x: Data. Half fits the prior, a quarter chooses or stops, a quarter evaluates its gain.
        family: ``"gmm"``, mixtures of 1 to 50 Gaussians with diagonal or full covariances, of
            which the second part chooses; ``"flow"``, a masked autoregressive flow on the
            standardised latents, for two latents or more.
        x_train: Data to fit on; then two thirds of them fit, one third chooses, and all of x
            evaluate.
        max_steps: Gradient steps of the flow at most; the second part stops it.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint of x; the prior does not depend on it.
        condition_train: One row per datapoint of x_train.

    Returns:
        A model, with the held-out gain as ``gain``. Where nothing scored better than the model's
        own prior on the second part, that prior is kept and the gain is zero.

    Raises:
        InputError: An unknown family, fewer than twenty datapoints, one latent for a flow.
        ContractError: Discrete latents, or points of a simplex.

    References:
        | From Variational to Deterministic Autoencoders (Ghosh et al., 2020),
          https://arxiv.org/abs/1903.12436
        | Diagnosing and Enhancing VAE Models (Dai and Wipf, 2019),
          https://arxiv.org/abs/1903.05789

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_2()
        >>> x, _ = model.sample(2000, seed=0)
        >>> fitted = fit_prior(model, x, seed=0)
        >>> abs(fitted.gain.mean - model.marginal_kl().item()) < 3 * fitted.gain.stderr
        True
    """
    require_positive("max_steps", max_steps)
    with evaluating(model), seeded(seed) as used:
        parts = split_aggregate(model, x, x_train, condition, condition_train)
        require_volume(parts.prior)
        with one_thread():
            name, r = _best(parts, _candidates(parts, family, max_steps))
        gain = _gain(parts, name, r, {"seed": used, **parts.settings, "density": name})
    return FittedPriorModel(model, r, gain)


class FittedPriorModel:
    """A model with another prior; see :func:`fit_prior`.

    Args:
        model: Whose encoder and decoder are used; its parameters are shared, not copied.
        fitted: The prior instead of its own, a constant.
        gain: What it gains, in nats per datapoint.

    Attributes:
        gain: :math:`E_{q(z|x)}[\\log r(z) - \\log p(z)]` per datapoint of the evaluated part: the
            paired difference of the two bounds; ``stderr`` is its error over datapoints.
    """

    def __init__(self, model: LatentVariableModel, fitted: Distribution, gain: Estimate) -> None:
        self.model, self.fitted, self.gain = model, fitted, gain

    def prior(self) -> Distribution:
        """Returns the fitted prior."""
        return self.fitted

    def decode(self, z: Float[Tensor, "*B_and_Z"]) -> Distribution:
        """Returns the model's p(x|z)."""
        return self.model.decode(z)

    def encode(self, x: Float[Tensor, "B *X"]) -> Distribution:
        """Returns the model's q(z|x)."""
        return self.model.encode(x)

    def given(self, condition: Shaped[Tensor, "B *C"]) -> FittedPriorModel:
        """Returns the model for one batch of conditions, with the same prior."""
        return FittedPriorModel(given(self.model, condition), self.fitted, self.gain)

    def __repr__(self) -> str:
        return (
            f"{type(self.model).__name__} with p(z): {self.gain.settings['density']}; {self.gain}"
        )


def _best(parts: Parts, candidates: Iterator[tuple[str, Distribution]]) -> tuple[str, Distribution]:
    """The candidate that scores best on the second part, against the model's own prior."""
    best, score = ("the prior itself", parts.prior), 0.0
    for name, r in candidates:
        value = _log_ratio(parts.choose, r, parts).mean().item()
        if value > score:
            best, score = (name, r), value
    return best


def _log_ratio(part: Part, r: Distribution, parts: Parts) -> Tensor:
    if r is parts.prior:
        return torch.zeros_like(part.log_p)
    z = part.z.reshape(len(part.z), *parts.prior.event_shape).to(parts.dtype)
    log_ratio: Tensor = r.log_prob(z).double() - part.log_p
    return log_ratio


def _gain(parts: Parts, name: str, r: Distribution, settings: Mapping[str, object]) -> Estimate:
    part = parts.evaluate
    a = averages(_log_ratio(part, r, parts), part.which, part.size)
    return Estimate(
        "gain of the fitted prior",
        f"paired E_q[log r(z) − log p(z)] on held-out data, r: {name}",
        a.values,
        a.mc_stderr,
        "unbiased",
        standard_error(a.values),
        settings={**settings, "error": "given this prior: another split would fit another"},
        data_id=parts.data_id,
        notes=parts.notes,
        held_out=True,
    )


def _candidates(parts: Parts, family: str, max_steps: int) -> Iterator[tuple[str, Distribution]]:
    match family:
        case "gmm":
            return _mixtures(parts)
        case "flow":
            return iter([("masked autoregressive flow", _flow(parts, max_steps))])
    raise InputError("family", expected="'gmm' or 'flow'", got=repr(family))


def _mixtures(parts: Parts) -> Iterator[tuple[str, Distribution]]:
    d = parts.fit.z.shape[1]
    for K, covariance in MIXTURES:
        width = d if covariance == "full" else 1
        enough = K == 1 or parts.fit.size >= 2 * K * (width + 1)
        if not enough or (covariance == "full" and d > LARGEST_FULL):
            continue
        r = mixture_distribution(parts.fit.z, K, covariance, tuple(parts.prior.event_shape))
        kind = "a Gaussian" if K == 1 else f"a mixture of {K} Gaussians"
        word = "diagonal" if covariance == "diag" else covariance
        yield f"{kind}, {word} covariance", r.to(parts.dtype)


def _flow(parts: Parts, max_steps: int) -> Distribution:
    """A flow of the standardised latents, undone to the latents."""
    z, shape = parts.fit.z, parts.prior.event_shape
    network = FlowDensity(z.shape[1])
    fit_network(network, parts.fit, parts.choose, max_steps=max_steps)
    centre, scale = z.mean(0), z.std(0).clamp(min=torch.finfo(z.dtype).tiny)
    centre, scale = centre.to(parts.dtype), scale.to(parts.dtype)
    base = standard_normal((z.shape[1],), centre)
    flow = FlowPosterior(base, network.flow.to(parts.dtype).requires_grad_(False))
    undone = [AffineTransform(centre, scale, event_dim=1)]
    back = [] if len(shape) == 1 else [ReshapeTransform(centre.shape, shape)]
    return TransformedDistribution(flow, [*undone, *back], validate_args=False)
