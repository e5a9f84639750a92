"""softly for PyTorch: modules with state, and attention for transformers.

The functions of `softly` take tensors as they are; what stands here imports torch.
"""
