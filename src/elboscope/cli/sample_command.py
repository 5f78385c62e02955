"""``elboscope sample``: decoder means, or a GAN's samples, at draws from the prior."""

from __future__ import annotations

__all__ = ["run"]


from elboscope.core import evaluating, generated, is_implicit, seeded
from elboscope.core.contract import check_generator
from elboscope.core.files import expanded
from elboscope.plots.samples import plot_sample_grid, sample_grid_data
from elboscope.report import replace_with

from .evaluation_data import load_target
from .parser import Arguments
from .terminal import UsageError


def run(arguments: Arguments) -> int:
    """Writes the picture; of a VAE it shows E[x|z], which is smoother than a draw of x."""
    path = expanded(arguments.out)
    if path.suffix.lower() != ".png" or path.is_dir():
        got = "a folder" if path.is_dir() else repr(path.suffix or path.name)
        raise UsageError("--out", expected="a file ending in .png", got=got)
    model = load_target(arguments.model, trust=arguments.trust).model
    with evaluating(model), seeded(arguments.seed) as seed:
        z = check_generator(model, arguments.num)
        means = generated(model, z)
    replace_with(path, plot_sample_grid(sample_grid_data(means)))
    what = "samples G(z)" if is_implicit(model) else "means E[x|z]"
    print(f"{path}: {what} at {arguments.num} draws of z from the prior, seed {seed}")
    return 0
