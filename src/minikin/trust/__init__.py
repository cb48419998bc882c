"""When a small model may answer: scores, certification, the certificate and its guard, advice. Needs no torch."""
