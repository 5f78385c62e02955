r"""Has training blown up? NaN, infinite or absurd values, and the step where they began.

A model that has learned nothing at all is not absurd: for binary pixels it scores
:math:`-D \ln 2`, for a Gaussian decoder the density of the data around one mean image. A model
that is *worse than knowing nothing* has been thrown far away by its own training.
"""

from __future__ import annotations

__all__ = ["divergence"]

import math
from collections.abc import Mapping, Sequence

from elboscope.core import Estimate, Finding

from ..decision import check, exceeds
from ..evidence import Evidence
from ..quantities.likelihood import ELBO, KL, SCALE, TRAIN_ELBO

CHECK = "divergence"
# The bound in training may dip; falling this many times further below its best value than the
# whole range it had climbed is an explosion.
EXPLOSION = 10.0
# A KL beyond this is no code: 10⁴ nats would number every atom of the earth, and more.
ABSURD_RATE, ABSURD_RATE_PER_UNIT = 1e4, 100.0
# A random decoder scores a little worse than fair coins. An ELBO that is worse than knowing
# nothing by half of it is not untrained but broken.
ABSURD_SHARE = 0.5
# The values of a history that are judged, by the names training gives them.
JUDGED = ("train_bound", "loss", "validation_elbo", "valid_elbo")
BOUNDS = ("train_bound", "validation_elbo", "valid_elbo")


@check(CHECK, asked_in="divergence")
def divergence(evidence: Evidence) -> Finding:
    """Judges what is not finite, the history, and the ELBO against knowing nothing.

    Args:
        evidence: Uses ``capabilities``, ``nonfinite``, ``history``, ``elbo``, ``train_elbo``,
            ``kl``, ``scale``.

    Returns:
        *problem* for NaN or infinite parameters, densities or estimates, for a history that
        ends in them, for a bound far below that of an uninformed model, for a KL above 10⁴
        nats; *warning* where the bound is that of an untrained model, or where the history
        exploded on the way.
    """
    began = began_at(evidence.history)
    when = "" if began is None else f", from step {began:g} of training"
    broken = _broken(evidence)
    if broken:
        return Finding(CHECK, "problem", f"Diverged{when}: {broken}.", _numbers(evidence), ACTION)
    absurd = _absurd(evidence)
    if absurd:
        summary = f"Absurd values{when}: {absurd}."
        return Finding(CHECK, "problem", summary, _numbers(evidence), ACTION)
    useless = _useless(evidence)
    if useless:
        summary = f"Untrained, or no better than that{when}: {useless}."
        return Finding(CHECK, "warning", summary, _numbers(evidence), TRAIN)
    if began is not None:
        summary = f"Diverged at step {began:g} of training and came back: see the history."
        return Finding(CHECK, "warning", summary, {"step": began}, ACTION)
    if ELBO not in evidence and not evidence.history:
        reason = evidence.skipped.get(ELBO.name, "there is no ELBO and no history")
        return Finding(CHECK, "unavailable", f"Nothing to judge: {reason.rstrip('.')}.")
    how = f"; training history of {len(evidence.history)} rows" if evidence.history else ""
    return Finding(CHECK, "ok", f"All values are finite and plausible{how}.", _numbers(evidence))


ACTION = (
    "Train anew with a smaller step and clipped gradients: elboscope train CONFIG.yaml "
    "--training.learning_rate 0.0003 --training.max_grad_norm 10. Check the data's range first: "
    "elboscope check FILE.py:name --data FILE"
)


TRAIN = (
    "Load the trained weights, or train: elboscope train CONFIG.yaml. If the model is trained, "
    "give its training data (--train-data): a memorising model can do this on new data."
)


def _broken(evidence: Evidence) -> str:
    parts = []
    if evidence.nonfinite.get("parameters"):
        parts.append(f"{evidence.nonfinite['parameters']} parameters are NaN or infinite")
    parts += [p for p in evidence.capabilities.problems if "NaN" in p or "infinite" in p]
    parts += [
        f"{count} values of {name} are NaN or infinite"
        for name, count in evidence.nonfinite.items()
        if name != "parameters"
    ]
    last = evidence.history[-1] if evidence.history else {}
    parts += [
        f"the last {name} is {last[name]}" for name in _judged_names(last) if _bad(last, name)
    ]
    return "; ".join(dict.fromkeys(parts))


def _judged_names(row: Mapping[str, float]) -> tuple[str, ...]:
    """With the loss of every player of a game, by the names training gives them."""
    return (*JUDGED, *(name for name in row if name.endswith("_loss")))


def _bad(row: Mapping[str, float], name: str) -> bool:
    """Infinite, or NaN where it cannot be a value that was not taken (validation is not always)."""
    value = row.get(name, 0.0)
    return math.isinf(value) or (math.isnan(value) and (name == "train_bound" or "loss" in name))


def began_at(history: Sequence[Mapping[str, float]]) -> float | None:
    """Returns the step of the first row that is not finite or has exploded, or ``None``.

    Example:
        >>> bounds = (-5.0, -3.0, -2.0, -400.0)
        >>> rows = [{"step": float(i), "train_bound": b} for i, b in enumerate(bounds)]
        >>> began_at(rows)
        3.0
    """
    seen: dict[str, tuple[float, float]] = {}
    for index, row in enumerate(history):
        if any(_bad(row, name) for name in _judged_names(row)) or _has_exploded(row, seen):
            return float(row.get("step", row.get("epoch", index)))
    return None


def _has_exploded(row: Mapping[str, float], seen: dict[str, tuple[float, float]]) -> bool:
    """Whether a bound fell far below its best; remembers the first and best of each."""
    for name in BOUNDS:
        value = float(row.get(name, math.nan))
        if math.isnan(value):
            continue
        first, best = seen.get(name, (value, value))
        climbed = max(best - first, 0.1 * abs(best), 1.0)
        if best - value > EXPLOSION * climbed:
            return True
        seen[name] = (first, max(best, value))
    return False


def _absurd(evidence: Evidence) -> str:
    kl, units = evidence.get(KL), math.prod(evidence.capabilities.latent_shape)
    if kl is not None and kl.mean > max(ABSURD_RATE, ABSURD_RATE_PER_UNIT * units):
        return f"the KL is {kl.mean:.3g} nats"
    return _below_nothing(evidence, ABSURD_SHARE)


def _useless(evidence: Evidence) -> str:
    """Below knowing nothing, by however little: what an untrained model scores."""
    return _below_nothing(evidence, 0.0)


def _below_nothing(evidence: Evidence, share: float) -> str:
    nothing, known = uninformed(evidence), _best_known(evidence)
    if known is None or nothing is None:
        return ""
    elbo, error = known.mean, known.stderr
    margin = share * max(abs(nothing), 1.0)
    if exceeds(nothing - elbo, error, margin):  # never by NaN: one datapoint tells no error
        return (
            f"the ELBO, {elbo:.4g} ± {error:.2g} nats, is below {nothing:.4g}, the score of a "
            "model that knows nothing"
        )
    return ""


def _best_known(evidence: Evidence) -> Estimate | None:
    """The ELBO of the training data if it is the better: memorising is not diverging."""
    both = [evidence[key] for key in (ELBO, TRAIN_ELBO) if key in evidence]
    return max(both, key=lambda e: e.mean, default=None)


def uninformed(evidence: Evidence) -> float | None:
    """The score of knowing nothing: fair coins, dice of L sides, or one mean image and its σ²."""
    D = evidence.x[0].numel()
    family = evidence.capabilities.likelihood
    if family == "Bernoulli":
        return -D * math.log(2.0)
    if family == "ContinuousBernoulli":
        return 0.0  # the uniform density on [0, 1]
    if evidence.capabilities.levels:
        return -D * math.log(evidence.capabilities.levels)
    scale = evidence.get(SCALE)
    if family == "Normal" and scale is not None and scale.constant:
        variance = scale.declared
        x = evidence.x.flatten(1).double()
        n = len(x)
        if n < 2:
            return None
        # Around the mean of as many *other* data: their own would know something.
        spread = (x - x.mean(0)).square().sum(1).mean().item() * (n + 1) / (n - 1)
        return -0.5 * (spread / variance + D * math.log(2 * math.pi * variance))
    return None


def _numbers(evidence: Evidence) -> dict[str, object]:
    numbers: dict[str, object] = {"nonfinite": dict(evidence.nonfinite)}
    elbo = evidence.get(ELBO)
    if elbo is not None:
        numbers |= {"elbo": elbo.mean, "elbo_stderr": elbo.stderr}
        numbers["uninformed"] = uninformed(evidence)
    return numbers
