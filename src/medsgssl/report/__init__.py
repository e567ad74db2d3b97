"""Reports: pages, tables and charts made from result files alone.

``run_page.py`` draws the report of a run, ``study_page.py`` that of a study, ``mask_pages.py``
those about masks; ``tables.py`` and ``charts.py`` are what they are made of.
"""
