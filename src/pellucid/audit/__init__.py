"""Does a network rest on the right evidence, over a whole data set?"""
