"""An example of actions of your own."""
