"""The platform itself: is it alive from end to end?"""
