"""The keys of a run with their defaults: one set for every log; a config file adds its data and its budget.

Defaults were chosen on development blocks (docs/results/choices.md).
"""

from __future__ import annotations

from ml_collections import ConfigDict

from diet_jax.config.data import DATA
from diet_jax.config.keys import Key, Section, defaults

# Rivals of a study that names none.
STRONGEST = ('random_rows_our_labels', 'k_center_rows_our_labels', 'early_stop', 'subsample')

REFERENCE: Section = dict(
    model=Key('deepfm', 'the reference model: a name of the registry'),
    of_lists=Key('din', 'the reference model of a log whose rows have lists of what a field holds: histories'),
    dim=Key(8, 'embedding width of the reference model, of its students and of twins that name none'),
    optimizer=Key('adam', 'of the reference model', choices=('adam', 'adamw', 'lazy_adam', 'adagrad', 'sgd')),
    weight_decay=Key(0.0, 'of the reference model, decoupled'),
    learning_rate=Key(1e-3, 'of the one pass along the stream', least=0, open=True),
    rate=Key(1.0, 'multiplies its learning rate and those of the twins: 4 on a log of few steps', least=0, open=True),
    batch=Key(512, 'rows a step, over all devices'),
    shard_tables=Key(False, "each device holds its share of the id tables' rows, not all (docs/scaling.md)", free=True),
)
TWINS: Section = dict(
    models=Key(
        (
            dict(name='lr', model='lr', learning_rate=8e-3),
            dict(name='deepfm-no-user', model='deepfm', drop=('user',), learning_rate=1e-3),
            dict(name='mlp-no-context', model='mlp', drop=('context',), learning_rate=1e-3),
            dict(name='fm', model='fm', learning_rate=2e-3),
            dict(name='mlp', model='mlp', learning_rate=1e-3),
        ),
        'other models trained along the stream beside the reference model: what the memory gets wrong about them '
        'corrects the answer (docs/answer.md)',
        empty=True,
        of=(str, dict),
    ),
    of_lists=Key(
        (dict(name='deepfm', model='deepfm', learning_rate=1e-3),),
        'further ones of a log whose reference model is `reference.of_lists`',
        empty=True,
        of=(str, dict),
    ),
    other_rates=Key(
        (),
        'multiples of their learning rates at which the reference model and the twins are trained beside: known is '
        'the score of the best one on the block that learning rates are chosen on',
        empty=True,
        of=(int, float),
    ),
    keep=Key(3, 'stages whose twins stay on disk; 0: all', least=0, free=True),
)
CODEBOOK: Section = dict(
    codes=Key(0, 'codes of a field; 0: 1,024 shared by the fields, and one for every bin at least', least=0),
)
MEMORY: Section = dict(
    row_budget=Key(0.01, 'valid entries / stream rows seen so far: a share, 0.01 for 1 %', least=0, most=1),
    capacity=Key(0, 'entries there is room for; 0: sized for the blocks at hand, grown by half when full', least=0),
    max_new=Key(0, 'most new entries of a stage; 0: derived from the budget', least=0),
)
HISTORY: Section = dict(
    keep=Key(
        0,
        'stages whose memories stay in history/, 3 or more: the last ones; 0: all of them, for `evaluate` and `trends`',
        least=0,
        free=True,
    ),
)
ADDRESSING: Section = dict(
    replace=Key(0.05, 'share of the entries that give way in a stage', most=1),
    influence_power=Key(0.5, 'a in the odds of a row, |influence|^a * squared distance^b'),
    coverage_power=Key(1.0, 'b in the odds of a row'),
    query_rows=Key(2048, 'rows of the block in the influence query, beside the memory'),
    components=Key(16, 'principal components in the place of a row'),
    logit_weight=Key(2.0, 'weight of the logit in the place of a row'),
    basis_rows=Key(2048, 'rows that the principal components are found on'),
)
REFINE: Section = dict(
    models=Key((dict(model='deepfm', hidden=(16,)),), 'students of the outer loop; a small one does', of=(str, dict)),
    pool=Key(4, 'students of one architecture that live on from stage to stage'),
    max_age=Key(400, 'inner steps after which a pooled student starts over'),
    outer_steps=Key(4, 'steps of the labels, a stage and architecture'),
    inner_steps=Key(20, 'T: steps of a student in one outer step'),
    window=Key(20, 'of these the last so many are differentiated'),
    remat=Key(False, 'less memory for a window short enough to be unrolled plainly; others are rematerialised anyway'),
    batch=Key(64, 'entries an inner step'),
    inner_lr=Key(3e-3, 'learning rate of a student'),
    outer_rows=Key(512, 'rows of the block in the outer loss'),
    past_rows=Key(256, 'entries in the outer loss, standing for the past'),
    past_weight=Key(1.0, 'weight of the past in the outer loss'),
    click_share=Key(0.0, "outer labels: 1 the rows' clicks, 0 the reference model's probabilities", most=1),
    label_lr=Key(0.02, 'learning rate of the labels'),
    held_share=Key(0.2, 'share of a block that the do-no-harm check keeps from refinement', least=0, most=1, open=True),
    restart_moved=Key(0.5, "pooled students start over when more of the block's ids than this share changed code"),
    check_rows=Key(2048, 'held-out rows that the check scores'),
    check_epochs=Key(2, "epochs of the check's students"),
    check_batch=Key(128, "entries a step of the check's students"),
    check_seeds=Key(1, "the check's students a side"),
    check_lr=Key(3e-3, "learning rate of the check's students"),
)
EVALUATE: Section = dict(
    candidates=Key(
        ('lr', 'fm', 'mlp', 'deepfm', 'dcnv2', 'autoint'),
        'what `evaluate` trains: names, or dicts',
        free=True,
        of=(str, dict),
    ),
    dim=Key(8, 'embedding width of candidates that name none', free=True),
    batch=Key(512, 'rows a step on the log', free=True),
    learning_rates=Key((5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2), 'tried on the log, on the scale of Adam', free=True),
    student_batch=Key(32, 'rows a step on the memory', free=True),
    student_learning_rates=Key((1e-3, 2e-3, 4e-3, 1e-2, 2e-2, 4e-2), 'tried on the memory', free=True),
    epochs=Key((1,), 'passes over the memory, on codes; few, else weak students catch up with the teacher', free=True),
    by_ids=Key(
        0.1,
        "weight of students on the rows' own ids, beside those on codes, in what orders candidates; 0: codes alone",
        most=1,
        free=True,
    ),
    id_epochs=Key(1, 'passes over the memory, on ids', free=True),
    seeds=Key(3, 'of every training, on both sides', free=True),
    label=Key('', "the outcome that is compared, of data.label.others; '' is the main one", free=True),
    first_stage=Key(3, 'stages before it are not evaluated', free=True),
    full_cache=Key('', 'folder of the passes over the log; empty: full-side/ beside the workdir', free=True),
)
TRENDS: Section = dict(
    pool=Key('configs/pools/ctr.py', 'the candidates: a file with sweep(add)', free=True),
    only=Key((), 'names of candidates; empty: all', empty=True, free=True),
    confirmation=Key(False, 'the confirmation set too: once a release', free=True),
    stage=Key(0, 'the stage studied; 0: the last that the protocol allows', least=0, free=True),
    full_seeds=Key(6, 'of every training on the log', free=True),
    distillations=Key(5, 'memories, with config.seed and the seeds that follow; three mislead', free=True),
    view=Key('blend', 'label of the memory', choices=('blend', 'soft', 'mean', 'hard'), free=True),
    rivals=Key(STRONGEST, 'what the memory is compared with', empty=True, free=True),
    visit_batch=Key(64, 'rows a step of early_stop, subsample and warm starts, which train on few rows', free=True),
    visit_learning_rates=Key((1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), 'tried by these', free=True),
    resamples=Key(1000, 'redraws of seeds and distillations', free=True),
    user_resamples=Key(200, 'redraws of test users', free=True),
)
KEYS: Section = dict(
    seed=Key(0, 'of all draws of a distillation', least=0),
    data=DATA,
    roles=dict(
        user=Key('', 'the field that is the user; candidates may drop roles by name'),
        item=Key('', 'the field that is the item'),
        creator=Key('', 'the field that is who made the item'),
        context=Key('', 'the field that is where it was shown'),
    ),
    reference=REFERENCE,
    twins=TWINS,
    codebook=CODEBOOK,
    memory=MEMORY,
    history=HISTORY,
    addressing=ADDRESSING,
    refine=REFINE,
    evaluate=EVALUATE,
    trends=TRENDS,
)


def default_config() -> ConfigDict:
    """All keys of a run at their defaults; docs/reference/config.md says what each is.

    >>> default_config().memory.row_budget
    0.01
    """
    return defaults(KEYS)
