"""Opening the stream of a log: prepared before, prepared now, or made when it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from diet_jax.base import lock
from diet_jax.base.atomic import put_folder, remove, remove_empty
from diet_jax.base.checksums import Damaged
from diet_jax.base.errors import UserError
from diet_jax.config.data import check_data, data_digest
from diet_jax.data import generated, prepare, sources, times
from diet_jax.data.prepared import EncodedStream


def _holds(manifest: dict, last: str) -> bool:
    """Whether all blocks up to `data.until` are prepared for certain: there are some behind it."""
    return bool(last) and prepare.blocks_until(manifest, last) < len(manifest['blocks'])


def open_stream(data, workdir, emit: Callable[[str], None] = print, prepares: bool = True) -> EncodedStream:
    """Opens the stream that `config.data` describes, preparing what the cache does not hold yet.

    The first call reads, joins, sorts, cuts and encodes the log into `workdir/blocks/<digest>`. Later calls
    open that at once, or encode only the blocks that are new. Files of cached blocks may have been deleted
    meanwhile, and rows of cached blocks may have gone from the log; if they changed, that is an error.

    Args:
      data: `config.data`; diet_jax.config.default_data() lists its keys.
      workdir: folder of the run.
      emit: given what was done, line by line.
      prepares: whether this process does; where it does not, another one has.
    Raises:
      UserError: anything wrong with the config or the files, in one line.
    """
    data = check_data(data)
    if data['source'] == 'simulated' and data['simulated']['rows_per_block'] >= generated.ROWS:
        Path(workdir).mkdir(parents=True, exist_ok=True)  # as preparing would
        return generated.GeneratedStream(data)
    folder = Path(workdir) / 'blocks' / data_digest(data)
    manifest = prepare.read_manifest(folder, data)
    if data['source'] == 'simulated':
        source = sources.SimulatedSource(data)
    else:
        source = sources.FileSource(data, folder, manifest)
    covered = (
        manifest
        and manifest['fingerprint'] == source.fingerprint()
        and (manifest['until'] in ('', data['until']) or _holds(manifest, data['until']))
    )
    if covered:
        emit(f'data: {len(manifest["blocks"])} blocks in {folder}; nothing is new')
    elif not prepares:
        raise UserError(
            f'{folder} does not hold what the first process has prepared there: --workdir and data.root must be the '
            'same for all processes, on storage that they share'
        )
    else:
        with lock.held(folder.parent, emit):
            if prepare.read_manifest(folder, data) != manifest:
                raise UserError(f'{folder} was prepared by another process meanwhile: run the same command again')
            manifest = _prepared(data, folder, manifest, source, emit)
    manifest.setdefault('utc_offset_hours', times.offset_hours(data['time']))  # a cache of before does not say it
    stream = EncodedStream(folder, manifest, data['until'])
    if not stream.blocks:
        first = manifest['blocks'][0]['key']
        raise UserError(f"data.until '{data['until']}' is before the first block ({first}): no block is left")
    return stream


def _prepared(data: dict, folder: Path, manifest: dict | None, source, emit: Callable[[str], None]) -> dict:
    """The manifest with the blocks that are new; whatever goes wrong, the workdir is left as it was."""
    log = folder.parent.parent / 'log.txt'
    new = [path for path in (folder / 'rows', folder) if not path.exists()]
    said = log.exists()
    try:
        return prepare.append(data, folder, manifest, source, emit)
    except Exception:  # raised again
        prepare.clean(folder, len(manifest['blocks']) if manifest else 0)
        if not said:
            remove(log)
        for path in new:
            if path.exists():
                remove_empty(path)
        raise


def prepare_again(data, workdir, damage: Damaged, emit: Callable[[str], None] = print) -> None:
    """Replaces a damaged cache by one that is prepared anew, if that comes to the same blocks.

    Args: data, workdir: as of `open_stream`; damage: what was found.
    Raises:
      Damaged: `damage`, where the log has no longer all that was prepared of it, or has other rows.
    """
    data = check_data(data)
    folder = Path(workdir) / 'blocks' / data_digest(data)
    if folder not in damage.path.parents:
        raise damage
    emit(f'{damage.path} is damaged or gone: the log is prepared again')
    try:
        before = prepare.read_manifest(folder, data)
    except UserError:
        before = None  # the checkpoint knows what blocks the memory has seen
    data['until'] = before['until'] if before else data['until']
    scratch = folder.with_name('again.part')
    remove(scratch)
    try:
        open_stream(ConfigDict(data), scratch, lambda line: None)
        anew = scratch / 'blocks' / folder.name
        if not _same_blocks(before, prepare.read_manifest(anew, data)):
            raise UserError('the log has other rows now')
        put_folder(anew, folder)
    except UserError as error:
        raise UserError(f'{damage}; preparing it again came to nothing: {error}') from error
    finally:
        remove(scratch)


def _same_blocks(before: dict | None, anew: dict) -> bool:
    """Whether a cache holds all blocks of one before it."""
    known = lambda blocks: [[b[k] for k in ('key', 'rows', 'num_slots', 'digest')] for b in blocks]  # noqa: E731
    old = known(before['blocks']) if before else []
    return known(anew['blocks'])[: len(old)] == old
