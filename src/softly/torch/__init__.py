"""softly for PyTorch: modules that hold a state, and attention for transformers.

The functions of `softly` take tensors as they are, derivatives and all; what stands here imports torch. Programs that
torch.export saved need `import softly.torch` where they are loaded: it makes softly's operators known to torch.
"""

from softly.torch import dot_product_attention as dot_product_attention
from softly.torch import linear_cross_entropy as linear_cross_entropy
from softly.torch import losses as losses
from softly.torch import operators as operators
from softly.torch import signed_sums as signed_sums
from softly.torch.attention import register_attention as register_attention
from softly.torch.mixture import ChoiceMixture as ChoiceMixture
from softly.torch.mixture import PrunedMixture as PrunedMixture
from softly.torch.modules import Entmax as Entmax
from softly.torch.modules import Temperature as Temperature
from softly.torch.self_attention import SelfAttention as SelfAttention

__all__ = ["ChoiceMixture", "Entmax", "PrunedMixture", "SelfAttention", "Temperature", "register_attention"]
