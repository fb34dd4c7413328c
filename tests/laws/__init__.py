"""The laws: what must hold for every operation, checked over the table and not case by case.

`checks` has the laws as plain functions of a record, so that `tests/meta` can hand them broken
records and see that they object.
"""
