"""Programs as formulas that a researcher reads."""
