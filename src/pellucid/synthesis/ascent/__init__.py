"""Gradient ascent on an image: the loop, its plan, films, and the result."""
