"""Methods: one file each; see ``base`` for the interface."""
