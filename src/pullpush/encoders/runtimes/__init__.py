"""What computes embeddings in the place of eager PyTorch: `runtime.py`, and a runtime a file beside it."""
