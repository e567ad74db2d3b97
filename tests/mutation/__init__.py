"""Mutation testing: do the tests notice when the code computes something else?"""
