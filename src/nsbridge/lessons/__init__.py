"""The lessons: Docker's bridge made by hand, a page each, and the stage on which they are played.

The pages beside this module are the one source. `nsbridge learn` plays them to a person, `make docs` writes them into
docs/lessons with what the commands printed, and a test plays all of them again (`lesson` reads, `stage` runs).
"""
