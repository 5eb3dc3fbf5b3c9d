"""Does a set-up give the published numbers, and if not, why?"""
