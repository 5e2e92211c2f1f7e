"""What is said between processes, and how it is written down. No sockets, no arithmetic."""
