"""The shipped alerting rules, routes and runbooks, checked by the programs that will read them."""
