"""softly for PyTorch: modules that hold a state, and attention for transformers.

The functions of `softly` take tensors as they are, derivatives and all; what stands here imports torch.
"""

from softly.torch.attention import register_attention as register_attention
from softly.torch.mixture import ChoiceMixture as ChoiceMixture
from softly.torch.mixture import PrunedMixture as PrunedMixture
from softly.torch.modules import Entmax as Entmax
from softly.torch.modules import Temperature as Temperature

__all__ = ["ChoiceMixture", "Entmax", "PrunedMixture", "Temperature", "register_attention"]
