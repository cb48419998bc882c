"""What comes in the box: data sets written for minikin, with a recipe each."""
