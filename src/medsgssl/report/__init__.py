"""Reports: pages, tables and charts made from result files alone."""
