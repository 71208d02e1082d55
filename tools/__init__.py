"""Commands for maintainers: nothing of the project imports them."""
