"""Words everybody shares: ticks, venues, symbols, records, settings. Imports none of ours."""
