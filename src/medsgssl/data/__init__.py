"""Data sets: readers, catalog, splits, caches, and the loader of view batches.

``readers/`` understands the layouts, ``labels.py`` names the classes, ``catalog.py`` is the table
of all images, ``splits.py`` splits by patient, ``file_checks.py`` sets corrupt files aside and
``audit.py`` counts them. ``image_cache.py`` decodes once; ``loader.py`` makes the batches.
"""
