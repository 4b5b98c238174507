"""CliniMM: fuse images, records, slides and notes; explain, audit and register the result.

Importing this package is cheap: neither torch nor a file-format library is loaded until a
function needs it.
"""

__version__ = "0.1.0"
