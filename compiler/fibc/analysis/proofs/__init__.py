"""What holds for every batch: exact analyses of a program, none of which runs it."""
