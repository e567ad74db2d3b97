"""The named steps of the anatomic recipe, in order.

`frame` -> `candidates` -> `pairing` -> `template` -> `refine` -> `appraise`
"""
