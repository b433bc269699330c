"""Work orders: opened for what people and machines report, and rolled forward once they are done."""
