"""Other Maydays."""
