"""Data that several tests share."""

import signal
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

# A background job of a shell starts with SIGINT ignored, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def usps():
    """Logits (10000, 10) float16 and labels of the bundled demo."""
    with resources.files("softly.data").joinpath("usps_on_mnist.npz").open("rb") as file, np.load(file) as data:
        return data["logits"], data["labels"]


@pytest.fixture(scope="session")
def langid60():
    """Log-probabilities (9999, 60) float16 up to a shift, and labels, of a language identifier."""
    with np.load(Path(__file__).parent / "data" / "langid60.npz") as data:
        return data["z"], data["y"]
