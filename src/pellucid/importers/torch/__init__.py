"""Torch functions as they are called: for Keras on the torch backend."""
