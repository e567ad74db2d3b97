"""Studies: many runs planned, run, and compared from their result files alone.

``plan_builder.py`` makes the plan, ``runner.py`` runs it, ``analysis.py`` compares, ``verdict.py``
words the result.
"""
