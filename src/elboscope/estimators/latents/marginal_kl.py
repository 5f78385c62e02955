r"""The marginal KL, KL(q(z) ‖ p(z)), by one of three methods.

The methods live beside the rest of what they compute: the mixture in :mod:`.surgery`, the
classifier in :mod:`.ratio`, the density models in :mod:`.density`; :mod:`.comparison` sets all of
them side by side.
"""

from __future__ import annotations

__all__ = ["Method", "marginal_kl"]

from dataclasses import replace
from typing import Literal

from torch import Tensor

from elboscope.core import Estimate, InputError, LatentVariableModel, evaluating, seeded

from ..inputs import prepared, require_positive
from ..streaming import Progress
from .aggregate import draw_aggregate
from .aggregate_parts import aggregate_inputs, split_aggregate
from .density import MAX_STEPS, DensityFamily, density_kl_of
from .ratio import STANDARD, RatioClassifier, ratio_kl_of
from .surgery import marginal_kl_of

Method = Literal["mixture", "classifier", "density"]


def marginal_kl(
    model: LatentVariableModel,
    x: object,
    method: Method = "mixture",
    *,
    x_train: object = None,
    num_draws: int | None = None,
    classifier: RatioClassifier = STANDARD,
    density: DensityFamily = "maf",
    max_steps: int = MAX_STEPS,
    seed: int | None = None,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
    progress: Progress | bool | None = None,
) -> Estimate:
    r"""Estimates :math:`\mathrm{KL}(q(z) \| p(z))` in nats, by one of three methods.

    No method can be trusted in every model, and they are numbers of different kinds:

    - ``"mixture"``: average KL − mutual information, of q_N of *these* data. On average no less
      than the population's KL, which it overstates where the posteriors are narrow for N.
    - ``"classifier"``: the mean logit of a classifier between draws of q(z) and p(z). No bound,
      in either direction; two lower bounds with the same logit are in ``diagnostics``. It needs
      no density of the posterior.
    - ``"density"``: E_q[log r − log p], r fitted to other datapoints. A lower bound on the
      population's KL, which lacks KL(q ‖ r): zero is no evidence of a matched prior.

    :func:`compare_marginal_kl` sets all of them side by side.

    Args:
        model: The model, with an encoder.
        x: Data, ``(N, *X)``. The mixture is over all of them. What is learned is fitted to half
            of them, chosen by a quarter and evaluated on a quarter.
        method: ``"mixture"``, ``"classifier"`` or ``"density"``.
        x_train: Data for q_N, or to learn on; what is learned is then evaluated on all of x.
        num_draws: S, draws from q_N of the mixture; by default as many as take seconds, and at
            least 1000 for flows, which are inverted N·S times.
        classifier: Layers and training of the classifier; the value depends on them.
        density: ``"gmm"``, mixtures of up to 100 diagonal Gaussians; ``"maf"``, a masked
            autoregressive flow; ``"lstm"``, an autoregressive LSTM with Gaussian conditionals.
        max_steps: Gradient steps of a density network at most.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint of x.
        condition_train: One row per datapoint of x_train.
        progress: Called with the draws of the mixture done and their number; True shows a bar.

    Returns:
        A value per datapoint (per draw of the mixture, where S < N), whose mean is the marginal
        KL. For a classifier ``diagnostics`` hold ``donsker_varadhan`` and ``nwj``.

    Raises:
        InputError: An unknown method or density; fewer than two draws, or than twenty datapoints
            to learn on; draws that are not finite; a flow of one latent unit.
        ContractError: The mixture of a posterior without a density.

    References:
        | ELBO surgery (Hoffman, Johnson, 2016)
        | Distribution Matching in Variational Inference (Rosca et al., 2018),
          https://arxiv.org/abs/1802.06847, algorithms 2, 3 and 4

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(2000, seed=0)
        >>> kl = es.marginal_kl(model, x, seed=0)
        >>> abs(kl.mean - model.marginal_kl().item()) < 3 * kl.stderr
        True
        >>> bound = es.marginal_kl(model, x, "density", density="gmm", seed=0)
        >>> bound.side, bound.mean < model.marginal_kl().item() + 3 * bound.stderr
        ('lower', True)
    """
    require_positive("max_steps", max_steps)
    if method not in ("mixture", "classifier", "density"):
        expected = "'mixture', 'classifier' or 'density'"
        raise InputError("method", expected=expected, got=repr(method))
    with evaluating(model), seeded(seed) as used:
        if method == "mixture":
            inputs = aggregate_inputs(
                model, prepared(model, x, condition), x_train, condition_train
            )
            return marginal_kl_of(draw_aggregate(model, inputs, num_draws, used, progress=progress))
        parts = split_aggregate(model, x, x_train, condition, condition_train)
        if method == "density":
            return density_kl_of(parts, density, used, max_steps=max_steps)
        ratio, *bounds = ratio_kl_of(parts, used, classifier)
    named = zip(("donsker_varadhan", "nwj"), (bound.values for bound in bounds), strict=True)
    return replace(ratio, diagnostics=dict(named))
