"""Keras 3 models as torch networks."""
