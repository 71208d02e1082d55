"""The reviewers' page: people look at clips in a browser and say which expression each shows."""
