"""Every statement, by area: one function each. A function takes a connection first, and never commits."""
