"""One command that shows the product: a company lives two days in half a minute, and its alerts are judged."""
