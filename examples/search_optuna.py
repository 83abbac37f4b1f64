"""Search a DeepFM with Optuna on a memory: each trial trains on a hundredth of the log.

    python examples/search_optuna.py --memory=runs/kuairand/memory
    python examples/search_optuna.py --memory=runs/kuairand/memory --confirm

The search is kept in search.log beside the readings: stopped, it goes on, and `--trials=100` adds to it. `--confirm`
trains the best and the default DeepFM on the full log. Needs optuna (pip install 'diet-jax[search]').
"""

import argparse

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import diet_jax

DEFAULT = {'model': 'deepfm'}


def config_of(trial: optuna.Trial, roles) -> dict:
    """The candidate of a trial, a dict as a line of a pool. Its learning rate is tuned on the memory: it is none."""
    layers = trial.suggest_int('layers', 1, 3)
    return {
        'model': 'deepfm',
        'dim': trial.suggest_categorical('dim', (2, 4, 8, 16)),
        'hidden': [trial.suggest_categorical(f'width{i}', (16, 32, 64, 128)) for i in range(layers)],
        'dropout': trial.suggest_float('dropout', 0.0, 0.4, step=0.1),
        'weight_decay': trial.suggest_categorical('weight_decay', (0.0, 0.03, 0.1, 0.3)),
        'drop': [role for role in roles if trial.suggest_categorical(f'without_{role}', (False, True))],
    }


def search(ask, roles, trials: int) -> None:
    """Goes on to so many trials."""
    storage = JournalStorage(JournalFileBackend(str(ask.workdir / 'search.log')))
    study = optuna.create_study(storage=storage, study_name='deepfm', direction='maximize', load_if_exists=True)
    done = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
    study.sampler = optuna.samplers.TPESampler(seed=done)  # another draw than the one that was stopped
    study.optimize(lambda trial: ask(config_of(trial, roles)).expected_auc, n_trials=max(0, trials - done))


def main(memory: str, trials: int, confirm: bool) -> None:
    ask = diet_jax.objective(memory)
    known = diet_jax.load_memory(memory).manifest['roles']
    default = ask(DEFAULT)
    search(ask, [role for role in ('item', 'creator', 'context') if known.get(role)], trials)
    best, next_run = ask.best(), ask.next_run()
    print(f'default  {default.expected_auc:.4f} +- {default.sd:.4f}  {DEFAULT}')
    print(f'best     {best.expected_auc:.4f} +- {best.sd:.4f}  {best.config}')
    print(f'on the full log the best beats the default with probability {ask.odds(best.config, DEFAULT):.2f}')
    print(f'the full run most worth doing, +{next_run.gain_of_a_run:.4f} AUC: {next_run.config}')
    if not confirm:
        print('--confirm trains both on the full log')
        return
    for name, config in (('default', DEFAULT), ('best', best.config)):
        full = ask.confirm(config)
        print(f'{name:7}  {full.mean:.4f} +- {full.sd:.4f} on the full log, {len(full.auc)} seeds')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--memory', required=True, help='the memory of a run')
    parser.add_argument('--trials', type=int, default=40)
    parser.add_argument('--confirm', action='store_true', help='train both on the full log')
    main(**vars(parser.parse_args()))
