"""Where interactions come from: public data sets, and a table of yours."""
