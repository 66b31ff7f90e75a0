"""SGD, Adam, LAMB and LAWN: pure update rules, and the faces that ordinary training loops use."""
