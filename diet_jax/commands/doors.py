"""The front door: what `import diet_jax` offers, and what the commands call. Whichever door one comes through, compiled
programs are kept in one place, distilling is timed, and a report is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ml_collections import ConfigDict

from diet_jax import describe as describing
from diet_jax import report
from diet_jax.base.atomic import write_text
from diet_jax.base.errors import UserError
from diet_jax.device.programs import keep_compiled
from diet_jax.report import scalars
from diet_jax.run import driver, overhead, processes
from diet_jax.run.record import read_metrics
from diet_jax.run.run import opened, replicate
from diet_jax.stats import scores
from diet_jax.stats.costs import read_overhead
from diet_jax.study import compare as comparing
from diet_jax.study import evaluate as evaluating
from diet_jax.study import export as exporting
from diet_jax.study import trends as trending
from diet_jax.study.objective import Objective

Emit = Callable[[str], None]


def describe(
    root: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    log: Sequence[str] = (),
    hours: float = 0.0,
    overwrite: bool = False,
) -> tuple[str, dict]:
    """From a folder of log files to a config that runs, with a question mark at every guess.

    Args:
      root: folder of the files, or a URI. out: where the config is written; None writes nothing.
      log: glob patterns of the files that are the log, () to find out; hours: of a block, 0 to find out.
      overwrite: write over a file that is there.
    Returns: the text of the config, and what was found: columns, days, sentences.
    Raises:
      UserError: no table, no time, two logs, one day only, or `out` is there.
    """
    if not os.fspath(root):
        raise UserError('--root is empty: name the folder of the log files')
    name = 'configs/mine.py' if out is None else os.fspath(out)
    if out is not None:
        if not name.endswith('.py'):
            raise UserError(f'--out={name}: a config is a Python file: name it {name}.py')
        if os.path.exists(name) and not overwrite:
            raise UserError(f'{name} is there: name another file in --out, or add --overwrite')
    found = describing.survey(os.fspath(root), _several(log), hours)
    text, said = describing.config_text(found, name), describing.summary(found)
    if out is not None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(name), text)
    return text, said


def distill(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    devices: Sequence | None = None,
    tensorboard: bool = False,
    command: str = '',
    emit: Emit = print,
) -> Path:
    """Brings the memory of a workdir up to the last block of the log, and writes its report.

    Run it again when the log has grown: only the new blocks are processed.

    Args:
      config: begins with `default_config()`; docs/your-log.md says how a log is described.
      workdir: folder of the run, made if absent: memory/, history/, metrics.jsonl, report.html, ...
      devices: JAX devices to run on, all by default. tensorboard: whether every stage's figures are written to
        tensorboard/ too. command: shown in the report. emit: given plain lines.
    Returns: the folder of the memory, for `load_memory` and `compare`.
    Raises:
      UserError: anything wrong with the config, the log or the workdir, in one line.
    """
    scalars.check(tensorboard)
    keep_compiled()

    seen = tensorboard and processes.first()
    with scalars.board(workdir, seen) as add:
        after_stage = lambda stage: seen and add(*scalars.of_stage(read_metrics(workdir)[-1]))  # noqa: E731
        run = driver.distill(config, workdir, emit, devices, after_stage, timed=not processes.several())
    if processes.first():
        if not processes.several() and overhead.outdated(run):  # the components are timed on one host
            overhead.measure(run)
        if took := run.forecast and run.forecast.after():
            emit(took)
        report.write_report(str(workdir), command or 'diet_jax.distill')
        if clock := read_overhead(run.workdir):
            grid = config.evaluate
            emit(scores.advice(clock['reference_seconds'], len(grid.learning_rates), grid.seeds))
    return run.workdir / 'memory'


def evaluate(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    replicates: Sequence[str | os.PathLike] = (),
    tensorboard: bool = False,
    command: str = '',
    emit: Emit = print,
) -> dict:
    """Students on the memory beside full training, by the protocol of stage t, for every stage from the third on.

    Args:
      config: that the memory was distilled with; its section `evaluate` names candidates, grids and seeds.
      workdir: folder of the run; replicates: of further runs over the same log, with other seeds;
        tensorboard: as of `distill`.
    Returns: what evaluate.json holds (docs/reference/files.md); the report of the workdir is written anew.
    Raises:
      UserError: nothing was distilled there, too few blocks, or anything wrong with the config.
    """
    scalars.check(tensorboard)
    keep_compiled()
    run, command = opened(config, workdir, emit), command or 'diet_jax.evaluate'
    result = evaluating.evaluate(config, run, [replicate(run, w) for w in replicates], command=command, emit=emit)
    report.write_report(str(workdir), command)
    scalars.write(workdir, tensorboard, scalars.of_evaluate(result))
    return result


def compare(
    memory: str | os.PathLike | Sequence[str | os.PathLike],
    candidates: str | os.PathLike | Mapping[str, Mapping] = MappingProxyType({}),
    *,
    anchors: str | os.PathLike | None = None,
    workdir: str | os.PathLike | None = None,
    label: str = '',
    predictions: str | os.PathLike | None = None,
    margin: float = 0.0,
    fail_if: Sequence[str] = (),
    slices: Sequence[str] = (),
    tensorboard: bool = False,
    command: str = '',
    emit: Emit = print,
) -> dict:
    """Which of these ideas would win on the full log, and how sure is that? Answered from a memory.

    Args:
      memory: folder of a memory in its run, or several of one log, each with its own seed: they are averaged.
      candidates: a file with sweep(add), or {name: options}, e.g. {'wide': dict(model='deepfm', hidden=(128, 64))}.
      anchors: JSON lines of past full runs; workdir: where to write, by default compare/ in the (first) run.
      label: the outcome that is asked, where the log has several; '' is the main one.
      predictions: folder of predictions of models that live elsewhere, by `diet_jax.elsewhere`: candidates too.
      margin: the least difference in AUC that matters: odds are of one better than another by more than that.
      fail_if: rules, 'wide worse than production by 0.001 with probability 0.9': what came of them is in `rules`.
      slices: words that cut the scored block: fields, roles, 'new:' before either; the answer in each is in `slices`.
      tensorboard: as of `distill`.
    Returns: what compare.json holds, and `workdir`, where it and report.html are.
    Raises:
      UserError: anything wrong with a file or a rule; too few blocks; nothing known of the log.
    """
    scalars.check(tensorboard)
    keep_compiled()
    memories = _several(memory)
    command = command or 'diet_jax.compare'
    asked = {
        'label': label,
        'predictions': predictions,
        'margin': margin,
        'fail_if': _several(fail_if),
        'slices': _several(slices),
    }
    result = comparing.compare(memories, candidates, anchors, workdir, **asked, command=command, emit=emit)
    report.write_compare(result['workdir'], result, command)
    scalars.write(result['workdir'], tensorboard, scalars.of_compare(result))
    return result


def export(
    memory: str | os.PathLike,
    to: str | os.PathLike,
    *,
    label: str = '',
    with_log: bool = False,
    command: str = '',
    emit: Emit = print,
) -> Path:
    """A memory, and the two blocks of the log that it is asked about, for models that live elsewhere.

    Args:
      memory: folder of a memory in its run. to: folder to write, whole or not at all; there must be none yet.
      label: the outcome that is predicted, where the log has several; '' is the main one.
      with_log: the encoded log up to the memory's last block too, for full runs.
    Returns: `to`, for `diet_jax.elsewhere.grid`; `compare(memory, predictions=...)` reads what that writes.
    Raises:
      UserError: `to` is there; anything wrong with a file; too few blocks.
    """
    keep_compiled()
    return exporting.export(memory, to, label=label, with_log=with_log, command=command or 'diet_jax.export', emit=emit)


def objective(
    memory: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    workdir: str | os.PathLike | None = None,
    label: str = '',
    emit: Emit = print,
) -> Objective:
    """What a search maximises: from a config to the AUC that it is expected to come to on the full log.

    Args:
      memory: folder of a memory in its run, or several, as for `compare`; it is opened once.
      workdir: where readings are kept, by default objective/ in the (first) run: a search goes on there.
      label: the outcome that is asked, as for `compare`.
    Returns: `Objective`, to be called with a config as a line of a pool; docs/search.md.
    Raises:
      UserError: anything wrong with a file; too few blocks; nothing known of the log.

    >>> ask = objective('runs/kuairand/memory')  # doctest: +SKIP
    >>> score = ask(dict(model='deepfm', dim=4, hidden=(32,)))  # doctest: +SKIP
    >>> score.expected_auc, score.sd, ask.best().config  # doctest: +SKIP
    """
    keep_compiled()
    memories = [memory] if isinstance(memory, (str, os.PathLike)) else list(memory)
    return Objective(memories, workdir, emit, label)


def trends(
    config: ConfigDict | None,
    workdir: str | os.PathLike | None,
    *,
    memories: Sequence[str] = (),
    from_json: str | os.PathLike | None = None,
    tensorboard: bool = False,
    command: str = '',
    emit: Emit = print,
) -> dict:
    """Does the memory rank a pool of candidates as the full log does? The trend instrument.

    Args: config, workdir: of the study, or None with `from_json`: a trends.json to be summarised again; memories:
      folders, one a distillation, () to distill them here;
      tensorboard: as of `distill`.
    Returns: what trends.json holds.
    Raises:
      UserError: anything wrong with the config, the log or a memory.
    """
    scalars.check(tensorboard)
    keep_compiled()
    command = command or 'diet_jax.trends'
    if from_json:
        folder = Path(from_json).parent
        result = trending.summarised(trending.read_trends(from_json), folder)
    elif config is None or not workdir:
        raise UserError('--config and --workdir are needed, or --from_json')
    else:
        folder = Path(workdir)
        result = trending.trends(config, folder, memories, command=command, emit=emit)
    report.write_trends(folder, result, command)
    scalars.write(folder, tensorboard, scalars.of_trends(result))
    return result


def _several(named) -> list:
    """What may be given alone, as a list."""
    return [named] if isinstance(named, (str, os.PathLike)) else list(named)
