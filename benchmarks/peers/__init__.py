"""Other queues, each set up for speed as its documentation says, doing nothing as often as they can."""
