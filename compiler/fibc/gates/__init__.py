"""Gates: what a gate is, how one is made of its definition, and those that need no definition."""
