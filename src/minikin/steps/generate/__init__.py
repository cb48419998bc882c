"""The steps of a build of the task `generate`; pipeline.py calls them in its order."""

from minikin.steps.generate import ask, heard, learn, material, prove, ship

__all__ = ["ask", "heard", "learn", "material", "prove", "ship"]
