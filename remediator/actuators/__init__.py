"""Action only: the calls that change the machine."""
