"""What each method costs, as a ratio to the raw passes that it needs, beside other tools in the same run."""
