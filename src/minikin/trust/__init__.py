"""When a kin may answer, who answers otherwise, and how its certificate is watched. Needs no torch."""
