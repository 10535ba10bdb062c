"""What is known of objectives: facts and properties, their proofs, witnesses of what fails."""
