"""From a stored study to the data of its page: what each view draws, in the form that `page_data` says."""
