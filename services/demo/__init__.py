"""One command that shows the product: everything started here, a small log imported, the breaches as they come."""
