"""The work behind the commands: settings in, a run out. What is typed is parsed elsewhere."""
