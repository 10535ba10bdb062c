"""Parity of the shipped objectives with the losses of verl and TRL, as installed from PyPI.

`make trainers-test` installs them and runs this; `make test` does not.
"""
