"""Making a trained student smaller: pruning, vocabulary trimming, quantization."""
