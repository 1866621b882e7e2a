"""Channel names, and a supervised feed of row changes that never gives up."""
