"""One question about one image, explained: the answer, an edit, traces, heads, the lens and attention, without a dataset."""
