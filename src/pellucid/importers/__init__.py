"""Networks of other frameworks, re-expressed in torch functions: every method works on them."""

from .graph import ImportFailed as ImportFailed
from .jax import from_jax as from_jax
from .keras import from_keras as from_keras
from .onnx import from_onnx as from_onnx
from .tensorflow import from_tensorflow as from_tensorflow
