"""Catalog: one table of every image of a data set, with its split and its state."""

from medsgssl.catalog.build import build_catalog, current_catalog, load_or_build, saved_as
from medsgssl.catalog.catalog import COLUMNS, FORMAT, Catalog
from medsgssl.catalog.place import CATALOG_FILE, cache_place
from medsgssl.catalog.several import further_sets, held_out_rows, identities, without_shared
from medsgssl.catalog.show import audit_view
from medsgssl.catalog.splits import SPLITS
from medsgssl.catalog.stratify import draw_label_fraction

__all__ = [
    "CATALOG_FILE",
    "COLUMNS",
    "FORMAT",
    "SPLITS",
    "Catalog",
    "audit_view",
    "build_catalog",
    "cache_place",
    "current_catalog",
    "draw_label_fraction",
    "further_sets",
    "held_out_rows",
    "identities",
    "load_or_build",
    "saved_as",
    "without_shared",
]
