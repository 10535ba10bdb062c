"""The syntax tree of a spec."""
