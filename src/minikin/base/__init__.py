"""Types, errors, files and the console: what every layer stands on. Imports no torch."""
