"""Does the simulated device behave like the real one? A recorded run replayed on it, with nothing fitted to that run."""
