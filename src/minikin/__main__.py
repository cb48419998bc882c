"""`python -m minikin` is `minikin`."""

from minikin.cli import main

if __name__ == "__main__":
    main()
