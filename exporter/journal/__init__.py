"""What must outlive a restart, and the history."""
