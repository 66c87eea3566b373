"""Loads: recorded traces read from files, and generated ones, all as lists of `Arrival`."""
