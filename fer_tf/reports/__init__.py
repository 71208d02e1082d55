"""Pages, figures, tables and cards: what a person reads of data, runs and networks."""
