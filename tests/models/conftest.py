"""What the tests of checkpoints share."""

from pathlib import Path

import pytest
import releases
import torch


@pytest.fixture
def save(tmp_path):
    """A function that saves what a publisher would and gives the path."""

    def save(content, name="network.pt", **options) -> Path:
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture
def cifar18():
    return releases.shaken(releases.MadryCifar())
