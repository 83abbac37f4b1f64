"""The paper: a memory that evolves with the stream, one file a mechanism, and the stage that is made of them.

Read `state` (what there is), then `stage` (what happens to it), then the mechanisms in its order: `reference`,
`codebook`, `influence`, `address`, `refine`, `check`.
"""
