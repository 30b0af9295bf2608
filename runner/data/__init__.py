"""From rows to labelled examples, every one of them checked."""
