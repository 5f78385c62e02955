"""How much signal is in a gradient estimate? Its signal-to-noise ratio against K."""

from .result import BlockSNR, GradientSNR
from .snr import at_budget, gradient_snr, snr_over_checkpoints

__all__ = ["BlockSNR", "GradientSNR", "at_budget", "gradient_snr", "snr_over_checkpoints"]
