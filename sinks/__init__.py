"""From the dataflow to the stores: outputs, spool, writer, and the embedded stores."""
