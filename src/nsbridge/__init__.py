"""nsbridge: Docker's bridge network for any Linux process or network namespace."""

__version__ = "0.1.0"
