"""Models: timm encoders, heads, and the objectives that several methods share."""

from medsgssl.models.encoder import Encoder, Features, build_backbone, build_encoder, token_grid
from medsgssl.models.grid import cell_cover, choose_cells, paint_cells
from medsgssl.models.nt_xent import mean_one, nt_xent, nt_xent_floor, nt_xent_terms
from medsgssl.models.projector import Projector

__all__ = [
    "Encoder",
    "Features",
    "Projector",
    "build_backbone",
    "build_encoder",
    "cell_cover",
    "choose_cells",
    "mean_one",
    "nt_xent",
    "nt_xent_floor",
    "nt_xent_terms",
    "paint_cells",
    "token_grid",
]
