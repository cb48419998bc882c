"""The steps of a build of the task `generate`; pipeline.py calls them in its order."""

from minikin.steps.generate import aims, learn, material, origins, prove, ship

__all__ = ["aims", "learn", "material", "origins", "prove", "ship"]
