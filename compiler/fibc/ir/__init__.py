"""The intermediate representation: `scalar` (arithmetic over params), `nodes` (operations on
tokens and cells), `verify`, `printer`."""
