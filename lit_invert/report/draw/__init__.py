"""The figures, a file for each thing that they show; all take tables as they stand in a run's folder."""
