"""From texts to token ids to padded batches: what teachers, students and training share. Needs torch to pad."""
