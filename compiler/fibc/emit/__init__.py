"""IR to a Python syntax tree to the text of a module that imports only torch."""
