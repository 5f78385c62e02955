"""``elboscope check``: the conformance check, on data."""

from __future__ import annotations

__all__ = ["run"]

from elboscope.core import Capabilities, check_model, evaluating, placed_like, seeded

from .evaluation_data import evaluation_data, load_target
from .parser import Arguments

PROBLEMS = 1


def run(arguments: Arguments) -> int:
    """Prints what the model can be asked; 1 if its numbers are not all right."""
    target = load_target(arguments.model, trust=arguments.trust)
    x = evaluation_data(target, arguments).x
    with evaluating(target.model), seeded(0):
        x = placed_like(x, target.model)
        found = check_model(target.model, x)
    print(_described(arguments.model, found))
    return PROBLEMS if found.problems else 0


def _described(name: str, found: Capabilities) -> str:
    rows = {
        "latents z": str(found.latent_shape),
        "data x": str(found.data_shape),
        "posterior q(z|x)": found.posterior or "none",
        "likelihood p(x|z)": found.likelihood,
        "reparameterised": _yes(found.reparameterised),
        "posterior density": _yes(found.has_posterior_density),
        "likelihood density": _yes(found.has_likelihood),
        "KL in closed form": _yes(found.analytic_kl),
        "x in its support": _yes(found.in_support),
    }
    lines = [f"{name}: keeps the contract of a latent-variable model"]
    lines += [f"  {label:<20}{value}" for label, value in rows.items()]
    lines += [f"  problem: {problem}" for problem in found.problems]
    return "\n".join(lines)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
