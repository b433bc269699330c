"""The storages of time series: native partitions, or TimescaleDB where it is installed. Same names, same columns.

A reader never asks which it is. Only what prepares or removes storage does.
"""
