"""The flow with one spare code in each key group, and codes that are free again after seconds."""

from connectors import roster
from flows import mie, symbol_file

roster.REUSE_S = 14.0  # beyond operators.steps.SETTLE_NS
symbol_file.spare_codes = lambda top: 1
flow = mie.flow
