"""Typed settings, one file per part; this package imports neither torch nor any stage."""
