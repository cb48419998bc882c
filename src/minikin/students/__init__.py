"""Students: small models as plain values, and the torch modules that they become while they train."""
