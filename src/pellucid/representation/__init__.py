"""How a network sees the world: what its layers hold, and where images lie among others."""

from .activations import Activations as Activations
from .activations import activations as activations
from .deep_mds import DeepMDS as DeepMDS
from .deep_mds import deep_mds as deep_mds
from .features import Features as Features
from .features import features as features
from .features import features_of as features_of
from .filters import Filters as Filters
from .filters import filters as filters
from .intrinsic_dimension import IntrinsicDimension as IntrinsicDimension
from .intrinsic_dimension import intrinsic_dimension as intrinsic_dimension
from .neighbors import Neighbors as Neighbors
from .neighbors import neighbors as neighbors
from .pacmap import pacmap as pacmap
from .pca import pca as pca
from .projections.embedding import Embedding as Embedding
from .receptive_field import ReceptiveFields as ReceptiveFields
from .receptive_field import receptive_fields as receptive_fields
from .sweeps.measures import BatchContext as BatchContext
from .sweeps.measures import Measure as Measure
from .sweeps.sweep import Sweep as Sweep
from .sweeps.sweep import sweep as sweep
from .sweeps.vectors import relevance_maps as relevance_maps
from .sweeps.vectors import vectors as vectors
from .top_patches import Patches as Patches
from .top_patches import patches_of as patches_of
from .top_patches import top_activations as top_activations
from .top_patches import top_patches as top_patches
from .tsne import tsne as tsne
from .umap import umap as umap

__all__ = [
    "Activations",
    "BatchContext",
    "DeepMDS",
    "Embedding",
    "Features",
    "Filters",
    "IntrinsicDimension",
    "Measure",
    "Neighbors",
    "Patches",
    "ReceptiveFields",
    "Sweep",
    "activations",
    "deep_mds",
    "features",
    "features_of",
    "filters",
    "intrinsic_dimension",
    "neighbors",
    "pacmap",
    "patches_of",
    "pca",
    "receptive_fields",
    "relevance_maps",
    "sweep",
    "top_activations",
    "top_patches",
    "tsne",
    "umap",
    "vectors",
]
