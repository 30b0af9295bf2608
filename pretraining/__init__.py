"""How the embedded base model and its data set were made; not part of the installed package."""
