"""Steps: what binds the stages to one recipe and one run folder. `pipeline.build` reads as a list of them."""
