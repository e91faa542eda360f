"""What everything else stands on: where things lie, and what a run was computed with."""
