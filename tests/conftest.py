"""Puts this folder on the path, so that tests of every stage can use small.py."""
