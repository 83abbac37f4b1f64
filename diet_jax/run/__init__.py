"""The daily job: a run and its folder, the driver, checkpoints, several processes, sweeps of runs."""
