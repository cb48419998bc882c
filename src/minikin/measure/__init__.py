"""Measuring: quality, speed, footprint, baselines and paired comparison of anything that answers."""
