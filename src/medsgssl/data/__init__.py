"""Data sets: readers, catalog, splits, caches, and the loader of view batches."""
