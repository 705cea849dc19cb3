"""Measurements of nsbridge beside its peers, in throwaway namespaces: ``python -m bench``, or ``make bench``."""
