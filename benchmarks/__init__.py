"""Measurements, pages of results and experiments; see the Makefile for what runs them."""
