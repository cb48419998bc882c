"""Planning: which students can fit a budget, and which of them deserve full training."""
