import pytest
import torch

from elboscope.core import InputError, seeded
from elboscope.nn import GatedPixelCNN


def jacobian(colours, side, n=1, kernels=(5, 3, 3)):
    """|∂ output/∂ x|: n numbers of (C, H, W) by values of (H, W, C), both in raster order."""
    shape = (colours, side, side)
    with seeded(0):
        network = GatedPixelCNN(shape, 2, n, 24, kernels).double()  # few dead ReLUs
        x, z = torch.rand(1, *shape).double(), torch.randn(1, 2).double()
    J = torch.autograd.functional.jacobian(lambda x: network(x, z)[0], x)[:, :, :, 0]
    D = colours * side * side
    J = J.reshape(n, *shape, *shape).permute(0, 2, 3, 1, 5, 6, 4)
    return J.reshape(n, D, D).abs()


@pytest.mark.parametrize(("colours", "n"), [(1, 1), (1, 4), (2, 3), (3, 1), (3, 4)])
def test_no_value_depends_on_itself_or_on_a_later_one(colours, n):
    J = jacobian(colours, 5, n)
    assert (J.triu() == 0).all()


@pytest.mark.parametrize("colours", [1, 2, 3])
def test_there_is_no_blind_spot(colours):
    """Every value depends on every one before it, those to the upper right included."""
    J = jacobian(colours, 5, kernels=(3, 3, 3, 3, 3))
    D = J.shape[-1]
    before = torch.ones(D, D, dtype=torch.bool).tril(-1)
    assert (J[0][before] > 0).all()


def test_the_receptive_field_of_one_layer_is_that_of_its_kernel():
    J = jacobian(1, 5, kernels=(3,))[0].reshape(25, 5, 5)
    seen = (J[12] > 0).nonzero().tolist()  # the centre, (2, 2)
    assert seen == [[0, 1], [0, 2], [0, 3], [1, 1], [1, 2], [1, 3], [2, 1]]


def test_everything_depends_on_z():
    with seeded(0):
        network = GatedPixelCNN((2, 4, 4), 3, 2, 4, (3, 3))
        x, z = torch.rand(1, 2, 4, 4), torch.randn(1, 3)
    J = torch.autograd.functional.jacobian(lambda z: network(x, z), z)
    assert (J.abs().amax((-1, -2)) > 0).all()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (((4, 4), 2), r"data_shape: expected \(channels, height, width\); got \(4, 4\)"),
        (((3, 4, 4), 2, 1, 8), "hidden: expected a multiple of the 3 channels.*got 8"),
        (((1, 4, 4), 2, 1, 8, (3, 4)), r"kernels: expected one or more odd sizes; got \(3, 4\)"),
        (((1, 4, 4), 2, 1, 8, ()), "kernels: expected one or more odd sizes"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, told):
    with pytest.raises(InputError, match=told):
        GatedPixelCNN(*arguments)
