"""The steps of a build of the task `generate`; pipeline.py calls them in its order."""

from minikin.steps.generate import aims, ask, follow, heard, learn, material, origins, prove, prune, ship

__all__ = ["aims", "ask", "follow", "heard", "learn", "material", "origins", "prove", "prune", "ship"]
