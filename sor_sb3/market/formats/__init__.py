"""Vendors' files of quotes and trades, turned into the columns that the loader reads: a module a format.

Importing this package loads none of them; `sor_sb3.market.formats.recognise` says whose a file's header is.
"""

from sor_sb3.market.formats.headers import recognise

__all__ = ["recognise"]
