r"""Does the model know its training data better than new data? Two independent samples.

The difference of the mean ELBO of training and evaluation data has the error
:math:`\sqrt{\mathrm{se}_\mathrm{train}^2 + \mathrm{se}_\mathrm{test}^2}`: nothing is paired. The
ELBO needs no trust in weights, and it is what was trained: it falls when the decoder *or* the
encoder has memorised. The same difference of log p̂ beside it tells the two apart: what is not in
log p̂ is the encoder's.

References:
    | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    | Inference Suboptimality in Variational Autoencoders (Cremer et al., 2018),
      https://arxiv.org/abs/1801.03558
"""

from __future__ import annotations

__all__ = ["overfitting"]

import math
from dataclasses import replace

from elboscope.core import Estimate, Finding, Severity

from ..decision import check, graded, unavailable
from ..evidence import Evidence, Missing
from ..quantities.likelihood import ELBO, LOG_PX, TRAIN_ELBO, TRAIN_LOG_PX

CHECK = "overfitting"
# Beside the nats the code carries (the rate): Burda et al. report about 3.5 nats between training
# and test data with one fixed binarisation, of a rate near 25, as overfitting that costs 2 nats
# on test data. A fifth of the rate is worth a look; a half means memorised training data.
WARNING_SHARE, PROBLEM_SHARE = 0.2, 0.5
# Where the code carries little, a difference of less than a nat is no subject.
WARNING_NATS, PROBLEM_NATS = 1.0, 3.0
GIVE_TRAINING_DATA = (
    "Give the data it was trained on: es.diagnose(model, x, x_train=x_train), or elboscope "
    "diagnose FILE.py:name --data x.npy --train-data x_train.npy"
)


@check(CHECK, asked_in="overfitting")
def overfitting(evidence: Evidence) -> Finding:
    """Judges the ELBO of training data minus that of evaluation data, beside the KL term.

    Args:
        evidence: Uses ``elbo``, ``train_elbo``; ``log_px``, ``train_log_px`` and ``history``
            where they exist.

    Returns:
        *warning* from max(1 nat, 20 % of the KL term), *problem* from max(3 nats, 50 %).
    """
    try:
        test, train = evidence[ELBO], evidence[TRAIN_ELBO]
    except Missing as missing:
        action = "" if evidence.x_train is not None else GIVE_TRAINING_DATA
        return replace(unavailable(CHECK, missing), action=action)
    if test.data_id and test.data_id == train.data_id:
        return Finding(CHECK, "unavailable", "Training and evaluation data are the same.")
    gap, error = _difference(train, test)
    rate = _rate(train)
    warning, problem = (
        max(WARNING_NATS, WARNING_SHARE * rate),
        max(PROBLEM_NATS, PROBLEM_SHARE * rate),
    )
    severity = graded(gap, error, warning=warning, problem=problem)
    numbers: dict[str, object] = {
        "difference": gap,
        "stderr": error,
        "rate": rate,
        "warning_from": warning,
        "problem_from": problem,
    }
    beside = ""
    if LOG_PX in evidence and TRAIN_LOG_PX in evidence:
        of_log_px, of_error = _difference(evidence[TRAIN_LOG_PX], evidence[LOG_PX])
        numbers |= {"difference_log_px": of_log_px, "stderr_log_px": of_error}
        beside = (
            f"; log p̂ differs by {of_log_px:+.2f} ± {of_error:.2f} (training − evaluation), and "
            "the rest is the encoder's"
        )
    best = best_epoch(evidence)
    if best is not None:
        numbers["best_epoch"] = best
    summary = (
        f"The ELBO of training data {'exceeds' if gap >= 0 else 'lies below'} that of evaluation "
        f"data by {abs(gap):.2f} ± {error:.2f} "
        f"nats (independent samples, n={len(train.values)} and {len(test.values)}){beside}. "
        f"The KL term is {rate:.2f} nats; a warning starts at {warning:.2f}."
    )
    return Finding(CHECK, severity, summary, numbers, _action(severity, best))


def _difference(a: Estimate, b: Estimate) -> tuple[float, float]:
    return a.mean - b.mean, math.hypot(a.stderr, b.stderr)


def _rate(train: Estimate) -> float:
    kl = train.diagnostics.get("kl")
    return 0.0 if kl is None else kl.double().mean().item()


def best_epoch(evidence: Evidence) -> float | None:
    """The epoch of the best held-out bound in the training's history, or ``None``."""
    rows = [r for r in evidence.history if math.isfinite(r.get("validation_elbo", math.nan))]
    if not rows:
        return None
    epoch = max(rows, key=lambda row: row["validation_elbo"]).get("epoch")
    return None if epoch is None else float(epoch)


def _action(severity: Severity, best: float | None) -> str:
    if severity == "ok":
        return ""
    if severity == "undecided":
        return "Give more evaluation data, or es.diagnose(model, x, budget='thorough')."
    peak = "" if best is None else f" (the held-out bound was best at epoch {best:g})"
    return (
        f"Stop at the best held-out bound{peak}: elboscope train CONFIG.yaml --training.patience "
        "20; train on a fresh binarisation of each minibatch: --binarisation dynamic; or take a "
        "smaller model: --model.hidden '[100]' --model.latent_dim 8. More data helps most."
    )
