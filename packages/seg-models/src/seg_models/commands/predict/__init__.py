"""`seg predict`: label maps of images and videos.

In the order of use: `command` has the command-line options and the steps, `options` parses
values, `jobs` lists the images of folders, glob patterns and URLs with their output files, `shards` divides the jobs
among processes, `runner` predicts them, `progress` shows the progress.
"""
