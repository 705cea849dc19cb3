"""The way from one state to another, in steps that can be taken back."""
