"""Why a packet arrives or doesn't; what was done, and what every rule is for: predictions, transcripts, pictures."""
