"""Planners of other schedulers, for comparison: they use the plug-in's seam like our own, and are not shipped."""
