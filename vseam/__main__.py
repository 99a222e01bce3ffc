"""`python -m vseam` is the command line."""

from vseam_cli.main import main

if __name__ == "__main__":
    main()
