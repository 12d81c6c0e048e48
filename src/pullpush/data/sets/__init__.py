"""The named data sets, a file each.

NAME.py holds `read_NAME`, and where there are some, `PUBLISHED` (images and classes as published) and `LAYOUTS` (what
writes small trees for trying it out). `readers` finds them by their names.
"""
