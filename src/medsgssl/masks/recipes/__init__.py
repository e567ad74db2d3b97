"""Mask recipes: one file or package per way to find the lungs."""
