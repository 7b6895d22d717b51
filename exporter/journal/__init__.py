"""The journal: what must outlive a restart, and the history."""
