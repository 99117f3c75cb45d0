"""`seg predict`: label maps of images and videos.

In the order in which they are used: `command` has the options of the command line and the steps, `options` parses
values, `jobs` lists the images of folders, glob patterns and URLs with their output files, `shards` divides the jobs
among processes, `runner` predicts them, `progress` shows how far it is.
"""
