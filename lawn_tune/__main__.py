"""`python -m lawn_tune` is `lawn-tune`, where no script of that name is on the path."""

from lawn_tune.cli.main import main

if __name__ == "__main__":
    main()
