"""Arithmetic on masks and feature maps that several methods share."""
