"""Reports, comparisons and model cards, made from the stored records of runs alone."""
