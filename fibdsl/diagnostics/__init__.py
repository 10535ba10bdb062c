"""Diagnostics: what is said to the user about a spec."""
