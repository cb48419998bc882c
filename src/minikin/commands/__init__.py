"""What the verbs of the command line do: one file per group. Imported by `cli`, inside its commands."""
