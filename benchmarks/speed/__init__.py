"""How fast this package is, beside its peers and beside what it cannot be faster than."""
