"""Translate a request in and a result out, and decide nothing."""
