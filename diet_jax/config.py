"""The default configuration of a run: one set for every log; a config file adds its data and its budget."""

from __future__ import annotations

from ml_collections import ConfigDict

from diet_jax.schema import default_data

# The four that rank best on KuaiRand or keep the most AUC (docs/results/history.md).
STRONGEST = ('random_rows_our_labels', 'k_center_rows_our_labels', 'early_stop', 'subsample')


def default_config() -> ConfigDict:
    """All keys of a run with their defaults. Figures in the comments were measured on KuaiRand (docs/results)."""
    c = ConfigDict()
    c.seed = 0
    c.data = default_data()
    c.roles = ConfigDict(
        dict(user='', item='', creator='', context='')
    )  # what candidates may drop -> fields of the log

    c.reference = ConfigDict(
        dict(
            model='deepfm',
            dim=8,
            learning_rate=2e-3,
            batch=512,  # rows a step, over all devices
            shard_tables=False,  # True: each device holds its share of the id tables' rows, not all (docs/scaling.md)
        )
    )
    c.twins = ConfigDict(
        dict(  # trained along the stream beside the reference model (docs/trust.md)
            models=(
                dict(name='lr', model='lr', dim=1, learning_rate=1e-2),
                dict(name='deepfm-no-user', model='deepfm', drop=('user',), learning_rate=2e-3),
                dict(name='mlp-no-context', model='mlp', drop=('context',), learning_rate=2e-3),
            ),
            keep=3,  # stages whose twins stay on disk; 0 = all
        )
    )
    c.codebook = ConfigDict(
        dict(
            codes=0,  # a field; 0: 1,024 shared by the fields
        )
    )
    c.memory = ConfigDict(
        dict(
            row_budget=0.01,  # valid entries / stream rows seen so far
            capacity=0,  # entries; 0: sized for the blocks at hand, grown by half when full
            max_new=0,  # bound on new entries a stage; 0: derived from the budget
        )
    )
    c.addressing = ConfigDict(
        dict(
            replace=0.05,  # share of the entries that give way in a stage
            influence_power=0.5,
            coverage_power=1.0,  # odds of a row: |influence|^a * squared distance^b
            query_rows=2048,  # rows of the block in the influence query, beside the memory
            components=16,
            logit_weight=2.0,  # where a row stands: principal components, and its logit
            basis_rows=2048,
        )
    )
    c.refine = ConfigDict(
        dict(
            models=(dict(model='deepfm', hidden=(16,)),),  # a small one: half the time, the same gain
            pool=4,
            max_age=400,
            outer_steps=4,
            inner_steps=20,
            window=20,
            remat=False,  # True: less memory for a window that is short enough to be plain (unroll.py); others always
            batch=64,
            inner_lr=3e-3,
            outer_rows=512,
            past_rows=256,
            past_weight=1.0,
            click_share=0.0,  # outer labels: 1 the rows' clicks, 0 the reference model's probabilities
            label_lr=0.02,
            held_share=0.2,  # of a block, for the do-no-harm check
            restart_moved=0.5,  # pooled students start over when more of the block's ids than this changed code
            check_rows=2048,
            check_epochs=2,
            check_batch=128,
            check_seeds=1,
            check_lr=3e-3,
        )
    )
    c.evaluate = ConfigDict(
        dict(
            candidates=('lr', 'fm', 'mlp', 'deepfm', 'dcnv2', 'autoint'),
            dim=8,
            batch=512,
            learning_rates=(1e-3, 2e-3, 4e-3, 1e-2, 3e-2, 1e-1),  # full side
            student_batch=32,
            student_learning_rates=(1e-3, 2e-3, 4e-3, 1e-2, 2e-2, 4e-2),  # memory side
            epochs=(1,),  # few: else weak students catch up with the teacher (docs/results/history.md)
            by_ids=0.2,  # weight of students on the rows' own ids beside those on codes in what orders; 0: codes alone
            id_epochs=1,
            seeds=3,
            first_stage=3,
            full_cache='',  # folder of the passes over the log; '' = full-side/ beside the workdir
        )
    )
    c.trends = ConfigDict(
        dict(
            pool='configs/pools/ctr.py',  # a file with sweep(add)
            only=(),  # names of candidates; () = all
            confirmation=False,  # the confirmation set too: once a release
            stage=0,  # 0 = the last that the protocol allows
            full_seeds=6,
            distillations=5,  # seeds: config.seed and those that follow; three mislead (docs/results/fidelity.md)
            view='blend',  # label of the memory: 'blend' | 'soft' | 'mean' | 'hard'
            rivals=STRONGEST,
            visit_batch=64,  # of early_stop and subsample, which train on few rows
            visit_learning_rates=(1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2),
            resamples=1000,  # of seeds and distillations
            user_resamples=200,
        )
    )
    return c
