"""Why a packet arrives or doesn't: predicted from what is there, told with its reason and its cure."""
