"""What plugin authors import: the abstract classes, and the records that travel between rooms."""
