"""Expressions with their names and units: what gate bodies and the statements at the token say."""
