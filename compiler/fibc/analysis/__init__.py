"""Proofs about objectives."""
