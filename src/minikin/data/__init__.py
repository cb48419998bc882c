"""From the user's files to clean, disjoint splits: read, check, keep apart, split, augment."""
