"""What this machine takes for each piece of work, as a cost model of the simulator; and whether that model is true.

`machine` is the file; `micro`, `steps` and `live` measure, `fit` puts together what they found; `simulated` plays the
load of `replog bench` in virtual time, `check` compares it with real processes. docs/calibration.md explains.
"""
