"""Typed Python client of the JamesTronic repair system."""
