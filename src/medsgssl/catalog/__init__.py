"""Catalog: one table of every image of a data set, with its split and its state."""

from medsgssl.catalog.build import build_catalog, load_or_build
from medsgssl.catalog.catalog import COLUMNS, FORMAT, Catalog
from medsgssl.catalog.place import CATALOG_FILE, cache_place
from medsgssl.catalog.several import check_apart, further_sets
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
    "check_apart",
    "draw_label_fraction",
    "further_sets",
    "load_or_build",
]
