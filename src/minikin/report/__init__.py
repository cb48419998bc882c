"""The report and the model card: what was built, in a page and in a README. Called by the pipeline at the end."""
