"""Pictures: colours, overlays, pages and charts.

There are two stacks. Pillow draws pages of pictures (`drawing`, `sheets`): `lpprop compare` and the
demo need no extra for them, and labels stay sharp to the pixel. Matplotlib draws charts of numbers
(`figures`), for evaluation and benchmarks, and is imported when the first one is drawn. Both take
their colours from `palettes`.
"""
