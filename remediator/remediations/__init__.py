"""The things that can be done: sources and actuators joined."""
