"""One door for data by name or by path, as the command line and configurations speak of them."""

from __future__ import annotations

__all__ = ["NAMES", "load"]

from pathlib import Path

from elboscope.core import InputError

from .celeba import celeba
from .color_mnist import color_digits, color_mnist
from .digits import digits
from .files import from_file
from .images import Images
from .inputs import nearest
from .named import cifar10, fashion_mnist, mnist
from .omniglot import omniglot

NAMES = (
    *("digits", "mnist", "fashion_mnist", "cifar10", "color_digits", "color_mnist"),
    *("omniglot", "celeba"),
)


def load(
    name_or_path: str | Path, data_dir: str | Path | None = None, download: bool = True
) -> Images:
    """Returns a data set by its name, or your own from a path.

    A name is taken before a file of the same name; write ``./mnist`` for the file. Case, hyphens
    and underscores do not matter: "Fashion-MNIST" is "fashion_mnist".

    Args:
        name_or_path: "digits", "mnist", "fashion_mnist", "cifar10", "color_digits",
            "color_mnist", "omniglot", "celeba", or a path ``from_file`` reads.
        data_dir: Folder of data sets; see ``mnist``.
        download: Whether missing files may be fetched.

    Raises:
        InputError: An unknown name (with the nearest valid one), or what the loader raises.

    Example:
        >>> load("digits").data_shape
        (1, 8, 8)
        >>> load("mnits")
        Traceback (most recent call last):
        elboscope.core.errors.InputError: data: expected one of digits, ... Did you mean 'mnist'?
    """
    match {_plain(name): name for name in NAMES}.get(_plain(str(name_or_path))):
        case "digits":
            return digits()
        case "mnist":
            return mnist(data_dir, download)
        case "fashion_mnist":
            return fashion_mnist(data_dir, download)
        case "cifar10":
            return cifar10(data_dir, download)
        case "color_digits":
            return color_digits()
        case "color_mnist":
            return color_mnist(data_dir, download)
        case "omniglot":
            return omniglot(data_dir=data_dir)
        case "celeba":
            return celeba(data_dir=data_dir)
    if _looks_like_path(name_or_path):
        return from_file(name_or_path)
    raise InputError(
        "data",
        expected=f"one of {', '.join(NAMES)}, or the path of a .npy, .npz or folder of images",
        got=repr(str(name_or_path)),
        do=nearest(name_or_path, NAMES),
    )


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _looks_like_path(name: str | Path) -> bool:
    path = Path(name)
    return isinstance(name, Path) or len(path.parts) > 1 or path.suffix != "" or path.exists()
