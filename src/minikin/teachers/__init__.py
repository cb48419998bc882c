"""Teachers: who knows. A local checkpoint, and a replay of what one said before."""
