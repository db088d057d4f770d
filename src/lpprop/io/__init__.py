"""Files in, files out: arrays of any model, images, and results that are whole or absent.

Input files are taken for hostile: nothing in them is executed, and damaged ones are refused.
"""
