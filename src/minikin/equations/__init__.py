"""Pure functions with their sources: losses, saliency, metrics, intervals. Imports nothing by itself."""
