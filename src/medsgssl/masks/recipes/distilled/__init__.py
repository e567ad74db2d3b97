"""The distilled recipe: a small network taught by the anatomic recipe's own good masks alone."""
