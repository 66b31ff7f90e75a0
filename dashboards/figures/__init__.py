"""The figures, one file each: a value, the function of results that makes it, and its drawing.

The only package that knows Plotly. Texts are escaped where they are drawn.
"""
