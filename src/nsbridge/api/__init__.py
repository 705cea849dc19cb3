"""The Python API: what `import nsbridge` offers. Use its names from there; these modules are where they live."""
