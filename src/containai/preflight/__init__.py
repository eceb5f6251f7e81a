"""Whether this host can give what a session is promised: facts, checks, and one answer for doctor and run."""
