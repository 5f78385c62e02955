r"""Diagnostics while somebody else's loop trains: is the latent space being used?

Every few epochs, on held-out data: the mutual information I(n; z) with its ceiling log N, active
units, the KL of each unit, and the importance-weighted bound of K = 64 samples, which is what the
ELBO of the same epoch lacks by the looseness of q. The seed is the same at each call, so two
epochs differ by the model. Training mode and random state are left as they were found: a
monitored run gives the numbers of one that was not.
"""

from __future__ import annotations

__all__ = ["Monitor"]

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from elboscope.core import ContractError, InputError, LatentVariableModel, evaluating, seeded
from elboscope.data import as_tensor

from ..likelihood.importance import importance_sampling
from .surgery import mutual_information
from .units import ACTIVE, active_units, unit_kl

Reading = dict[str, float | list[float]]


class Monitor:
    """Measures a model at the end of epochs; its ``history`` is a list of readings.

    In a plain loop call :meth:`epoch_ended` or :meth:`measure`. :meth:`on_train_epoch_end` has
    Lightning's signature: call it from a module's method of that name, or make it a callback by
    ``class Callback(es.estimators.Monitor, lightning.Callback): ...``.

    Args:
        model: The model. ``None`` takes what Lightning passes, which must be a model itself.
        x: Held-out data ``(N, *X)``, binarised once; a thousand datapoints are enough.
        every: Epochs between two readings.
        num_samples: K of the bound.
        seed: Random seed, the same at each reading.
        condition: One row per datapoint, for ``model.given``.
        log: Takes each reading, to print or to send it elsewhere.

    Raises:
        InputError: ``every`` or ``num_samples`` is below 1.

    References:
        | ELBO surgery (Hoffman & Johnson, 2016)
        | Importance Weighted Autoencoders (Burda et al., 2016), arXiv 1509.00519

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(200, seed=0)
        >>> monitor = Monitor(model, x)
        >>> reading = monitor.measure(epoch=1)
        >>> reading["active_units"], reading["mutual_information"] < reading["log_n"]
        (2.0, True)
    """

    def __init__(
        self,
        model: LatentVariableModel | None,
        x: object,
        *,
        every: int = 1,
        num_samples: int = 64,
        seed: int = 0,
        condition: Tensor | None = None,
        log: Callable[[Mapping[str, object]], object] | None = None,
    ) -> None:
        for name, value in (("every", every), ("num_samples", num_samples)):
            if value < 1:
                raise InputError(name, expected="a whole number ≥ 1", got=repr(value))
        self.model, self.x, self.condition = model, as_tensor(x).x, condition
        self.every, self.num_samples, self.seed, self.log = every, num_samples, seed, log
        self.history: list[Reading] = []

    def measure(self, epoch: int, model: LatentVariableModel | None = None) -> Reading:
        """Takes a reading now, whatever the epoch, and appends it to the history.

        Returns:
            ``epoch``; ``bound`` and ``bound_stderr`` of log p(x) in nats; ``mutual_information``
            with its ceiling ``log_n``; ``active_units``; ``kl`` and
            ``unit_kl``, its parts, where posterior and prior are factorised Gaussians.
        """
        subject = model if self.model is None else self.model
        if subject is None:
            raise InputError("model", expected="a model", got="none", do="Give Monitor one.")
        with evaluating(subject), seeded(self.seed):
            reading = self._reading(epoch, subject)
        self.history.append(reading)
        if self.log is not None:
            self.log(reading)
        return reading

    def _reading(self, epoch: int, model: LatentVariableModel) -> Reading:
        x, condition, seed = self.x, self.condition, self.seed
        bound = importance_sampling(model, x, self.num_samples, seed=seed, condition=condition)
        information = mutual_information(model, x, seed=seed, condition=condition)
        variances = active_units(model, x, seed=seed, condition=condition).values
        return {
            "epoch": float(epoch),
            "bound": bound.mean,
            "bound_stderr": bound.stderr,
            "mutual_information": information.mean,
            "log_n": float(torch.tensor(len(x)).double().log()),
            "active_units": float((variances > ACTIVE).sum()),
        } | self._kl(model)

    def _kl(self, model: LatentVariableModel) -> Reading:
        try:
            kl = unit_kl(model, self.x, condition=self.condition)
        except ContractError:  # no sum over units: a flow, a full covariance
            return {}
        return {"kl": kl.total, "unit_kl": kl.values.tolist()}

    def epoch_ended(self, epoch: int, model: LatentVariableModel | None = None) -> None:
        """Takes a reading if one is due after this epoch, counted from 1."""
        if epoch % self.every == 0:
            self.measure(epoch, model)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Lightning's hook: takes a reading if one is due, and logs its numbers there."""
        before = len(self.history)
        self.epoch_ended(int(trainer.current_epoch) + 1, pl_module)
        for reading in self.history[before:]:
            numbers = {f"elboscope/{k}": v for k, v in reading.items() if isinstance(v, float)}
            if hasattr(pl_module, "log_dict"):
                pl_module.log_dict(numbers)
