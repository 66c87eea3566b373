"""The plots of docs/explanation/laws.md: what each law does over time, from runs of the bench."""
