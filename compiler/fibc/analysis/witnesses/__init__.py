"""What one batch shows: batches made to measure, and what the interpreter makes of them."""
