"""The YAML file that says what to make: its schema, its reading with every fault at once, and the size dial."""
