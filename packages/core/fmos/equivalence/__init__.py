"""Runs the same operations on two realisations of FMOS and says whether the contract holds in both.

Goldberg's demand on a virtual machine, for agents: the same program behaves alike on another
realisation, except for time and resources. Here "alike" is relative to a contract.
"""
