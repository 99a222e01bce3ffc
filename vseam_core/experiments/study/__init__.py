"""A whole study: its stages in order, divided among workers, planned and costed before it runs."""
