"""The sections of a run's page, a file for each thing that they tell; each is empty where the run has nothing to say of it."""
