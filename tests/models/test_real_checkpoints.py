"""Networks that others trained reach, read by us, the accuracies measured for them elsewhere."""

import math

import pytest

from reprolib import data, store
from reprolib.errors import MissingData
from reprolib.models.checkpoints import ExpectedAccuracy, load_public
from reprolib.perturb.attacks import adversarial_accuracy
from reprolib.training.loop import choose_precision

# Clean accuracy and accuracy under PGD-20 (step 2.5 eps/20, one random start) at L2 .5, first 1,000 test images.
TABLE = {
    "ehanw_resnet20_std": ("resnet20", 0.900, 0.000),
    "ehanw_resnet20_pgd": ("resnet20", 0.850, 0.475),
    "oval_cifar_sgd_8px": ("oval", 0.744, 0.033),
    "oval_cifar_wide_kw": ("oval", 0.636, 0.468),
}


@pytest.mark.parametrize("name", TABLE)
def test_real_networks_reach_the_accuracies_measured_elsewhere(name):
    folder = next((root / "networks" for root in store.data_roots() if (root / "networks").is_dir()), None)
    if folder is None:
        pytest.skip("no folder networks/ in REPROLIB_DATA or data/: the public networks are not here")
    try:
        test = data.load("cifar10", "test")
    except MissingData as error:
        pytest.skip(str(error))
    architecture, clean, attacked = TABLE[name]
    x, y = test.x[:1000].float() / 255, test.y[:1000]
    network = load_public(folder / f"{name}.pth", architecture, accuracy=ExpectedAccuracy(x, y, clean, 0.002))
    # bf16, where the processor has it, only moves the images: the verdict on each is the network's own, in fp32
    measured = adversarial_accuracy(network, x[:100], y[:100], "l2", 0.5, restarts=1, precision=choose_precision(x.device)).value
    three_standard_errors = 3 * math.sqrt(max(attacked * (1 - attacked), 0.01) / 100)
    assert abs(measured - attacked) <= three_standard_errors
