"""Scenes whose truth is known exactly, and a small network that knows them."""

from .generator import ShapesGenerator, generator
from .network import MEAN, STD, ShapesNet, load_weights, trained_network
from .scenes import CLASSES, Scenes, scenes

__all__ = [
    "CLASSES",
    "MEAN",
    "STD",
    "Scenes",
    "ShapesGenerator",
    "ShapesNet",
    "generator",
    "load_weights",
    "scenes",
    "trained_network",
]
