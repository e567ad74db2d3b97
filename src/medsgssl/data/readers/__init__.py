"""Readers: one file per layout of data set on disk."""
