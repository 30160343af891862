"""Seven venues as local servers: their wire protocol over loopback, driven by one seeded market model.

Shares no encode or decode code with `connectors`, so that one mistake cannot cancel another.
"""
