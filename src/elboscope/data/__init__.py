"""Data: real images with checksums, the user's own arrays, and how grey becomes binary."""

from .availability import Availability, available
from .binarisation import Binarisation
from .brought import celeba, omniglot
from .color_mnist import color_digits, color_mnist, stack_digits
from .files import from_file, load, read_array
from .images import Images
from .inputs import Batch, as_tensor
from .locations import data_directory
from .named import cifar10, digits, fashion_mnist, mnist
from .official import read_cifar_batch, read_idx

__all__ = [
    "Availability",
    "Batch",
    "Binarisation",
    "Images",
    "as_tensor",
    "available",
    "celeba",
    "cifar10",
    "color_digits",
    "color_mnist",
    "data_directory",
    "digits",
    "fashion_mnist",
    "from_file",
    "load",
    "mnist",
    "omniglot",
    "read_array",
    "read_cifar_batch",
    "read_idx",
    "stack_digits",
]
