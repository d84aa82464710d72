"""The demo corpus: OpenMoji drawings composed into scenes, written as ordinary COCO and VQA files.

It says plainly what it is: composed scenes, not photographs. The concepts are divided in three: `trained` (all
annotations), `aligned` (names and boxes only, in no instruction) and `unseen` (in no training file); each has its
own held-out scenes.
"""
