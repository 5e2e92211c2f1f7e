"""What a run shows and leaves: events, progress, and the folder that holds it all."""
