"""Which program to run, on which tests, and is its output right?"""
