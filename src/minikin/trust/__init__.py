"""When a kin may answer, who answers otherwise, and how its certificate is watched; no torch, no network of its own."""
