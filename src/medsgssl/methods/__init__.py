"""Methods: one file each; ``base.py`` has the interface, ``simclr.py`` is the shortest of them."""
