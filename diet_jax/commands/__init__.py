"""The doors: functions for Python, and the commands over them. scripts/ and the console commands start these."""
