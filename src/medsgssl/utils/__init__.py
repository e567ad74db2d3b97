"""Small helpers without knowledge of the domain: files, random numbers, system, progress."""
