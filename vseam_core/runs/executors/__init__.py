"""Where the tasks of a study are done: by processes on this machine, or by actors of a Ray cluster."""
