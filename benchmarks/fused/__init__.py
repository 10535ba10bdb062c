"""How fast the fused losses are, and how far from the limit of the machine."""
