"""Networks of other frameworks, re-expressed in torch functions: every method works on them."""

from .graph.graph import ImportFailed as ImportFailed
from .jax.from_jax import from_jax as from_jax
from .keras.from_keras import from_keras as from_keras
from .onnx.from_onnx import from_onnx as from_onnx
from .tensorflow.from_tensorflow import from_tensorflow as from_tensorflow
