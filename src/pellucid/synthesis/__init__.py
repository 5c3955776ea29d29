"""What a unit wants to see: images made by ascending an objective."""

from .ascent.result import Synthesis as Synthesis
from .dream import dream as dream
from .ingredients.decoder import Decoder as Decoder
from .ingredients.objectives import caricature as caricature
from .ingredients.objectives import content as content
from .ingredients.objectives import cosine as cosine
from .ingredients.objectives import diversity as diversity
from .ingredients.objectives import guided as guided
from .ingredients.objectives import style as style
from .ingredients.parametrizations import CPPN as CPPN
from .ingredients.parametrizations import FixedMagnitude as FixedMagnitude
from .ingredients.parametrizations import Fourier as Fourier
from .ingredients.parametrizations import Generator as Generator
from .ingredients.parametrizations import Pixels as Pixels
from .ingredients.parametrizations import Sigmoid as Sigmoid
from .ingredients.penalties import center_bias as center_bias
from .ingredients.penalties import gaussian_prior as gaussian_prior
from .ingredients.penalties import l2 as l2
from .ingredients.penalties import lp as lp
from .ingredients.penalties import total_variation as total_variation
from .ingredients.transforms import blur as blur
from .ingredients.transforms import clip_small_gradients as clip_small_gradients
from .ingredients.transforms import clip_small_pixels as clip_small_pixels
from .ingredients.transforms import jitter as jitter
from .ingredients.transforms import pad as pad
from .ingredients.transforms import rotate as rotate
from .ingredients.transforms import scale as scale
from .ingredients.transforms import standardize as standardize
from .invert import invert as invert
from .maximize import maximize as maximize
from .multifaceted import multifaceted as multifaceted
from .prototype import prototype as prototype
from .quilt import quilt as quilt
from .style_network import StyleNetwork as StyleNetwork
from .style_transfer import style_transfer as style_transfer
from .texture import texture as texture
from .train_generator import train_generator as train_generator
from .train_style import train_style as train_style

__all__ = [
    "CPPN",
    "Decoder",
    "FixedMagnitude",
    "Fourier",
    "Generator",
    "Pixels",
    "Sigmoid",
    "StyleNetwork",
    "Synthesis",
    "blur",
    "caricature",
    "center_bias",
    "clip_small_gradients",
    "clip_small_pixels",
    "content",
    "cosine",
    "diversity",
    "dream",
    "gaussian_prior",
    "guided",
    "invert",
    "jitter",
    "l2",
    "lp",
    "maximize",
    "multifaceted",
    "pad",
    "prototype",
    "quilt",
    "rotate",
    "scale",
    "standardize",
    "style",
    "style_transfer",
    "texture",
    "total_variation",
    "train_generator",
    "train_style",
]
