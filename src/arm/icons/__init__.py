"""Icons drawn by people and named by people: a domain of real pictures."""
