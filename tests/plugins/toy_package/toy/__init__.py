"""A package that brings a rule, a control, a loss, a model and a data set of its own."""
