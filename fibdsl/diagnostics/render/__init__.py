"""Output formats of diagnostics, one file each."""
