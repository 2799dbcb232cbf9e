"""Reading alerting rules, Alertmanager's routes and the policy together, and whether they fit."""
