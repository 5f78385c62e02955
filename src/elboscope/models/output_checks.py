"""Two mistakes that would cost nats silently: a decoder that ends in probabilities where logits
were declared, and an encoder whose "standard deviations" are negative.
"""

from __future__ import annotations

__all__ = ["DecoderOutput", "check_range", "check_std"]

from typing import Literal

from torch import Tensor, nn

from elboscope.core import InputError

DecoderOutput = Literal["logits", "probs"]


def check_std(output: Tensor | tuple[Tensor, Tensor]) -> None:
    """Refuses standard deviations that are not positive."""
    std = output.chunk(2, dim=1)[1] if isinstance(output, Tensor) else output[1]
    if not bool((std <= 0).any()):
        return
    raise InputError(
        "encoder_output 'mu_std'",
        expected="standard deviations, which are positive",
        got=f"values down to {std.min().item():.3g}",
        do="For log-variances use encoder_output='mu_logvar', for log σ 'mu_logsigma'.",
    )


def check_range(decoder: nn.Module, output: Tensor, declared: DecoderOutput | None) -> None:
    """Refuses outputs that are not what was declared: logits, or probabilities."""
    ends_in_sigmoid = isinstance(_last_layer(decoder), nn.Sigmoid)
    inside = bool(((output >= 0) & (output <= 1)).all())
    got = f"outputs from {output.min().item():.3g} to {output.max().item():.3g}" + (
        " of a decoder that ends in Sigmoid" if ends_in_sigmoid else ""
    )
    if declared == "probs" and not inside:
        raise InputError(
            "decoder_output 'probs'", expected="outputs in [0, 1]", got=got, do="Use 'logits'."
        )
    if inside and (declared is None or (declared == "logits" and ends_in_sigmoid)):
        raise InputError(
            "decoder_output",
            expected="logits, which are unbounded",
            got=got,
            do="If they are probabilities, pass decoder_output='probs'; better, drop the Sigmoid "
            "and keep logits"
            + ("." if ends_in_sigmoid else "; if they are logits, say decoder_output='logits'."),
        )


def _last_layer(module: nn.Module) -> nn.Module:
    return [m for m in module.modules() if not any(True for _ in m.children())][-1]
