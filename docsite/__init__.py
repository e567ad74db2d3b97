"""Builds the documentation site and its pictures from the code."""
