"""A simulated stream that is never stored: every block is made and encoded when it is read.

For streams too large to keep. The values there can be are known beforehand, so the vocabulary is as well, and a block
needs none of the others: opening a stream makes its first block, for the bins of numeric fields, and no other.
"""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_jax.base.errors import UserError
from diet_jax.config import outcomes
from diet_jax.data import prepare, sources, times
from diet_jax.data.prepared import EncodedStream
from diet_jax.data.simulated import block_key, value_counts
from diet_jax.data.vocabulary import Vocabulary

ROWS = 500_000  # of a block: from here on a simulated stream is not stored


class GeneratedStream(EncodedStream):
    """As `EncodedStream`, without a file.

    Args:
      data: checked `config.data` of a simulated stream.
    Raises:
      UserError: a field that the simulated stream does not have, or histories, which need the blocks before.
    """

    vocabulary: Vocabulary = None  # not the base class's, which reads a file

    def __init__(self, data: dict):
        if data['histories']:
            raise UserError(
                f'data.histories of a simulated stream need blocks that are stored: make data.simulated.rows_per_block '
                f'less than {ROWS}, or leave them out'
            )
        self._source = sources.SimulatedSource(data)
        first, p = self._piece(0), self._source.parameters
        self.vocabulary = Vocabulary(prepare.fields_of(data))
        blocks = []
        for t in range(p.blocks):
            counts = value_counts(p, t)
            self.vocabulary.grow(
                [
                    first.columns[field.name] if field.kind == 'numeric' else pa.array(np.arange(counts[field.name]))
                    for field in self.vocabulary.fields
                ],
                block_key(t),
            )
            blocks.append(
                dict(key=block_key(t), start=block_key(t), rows=p.rows_per_block, num_slots=self.vocabulary.num_slots)
            )
        encoded = io.BytesIO()
        pq.write_table(self._encoded(first), encoded, compression='zstd')
        like_first = dict(
            positives=int(first.label.sum()), encoded_bytes=encoded.getbuffer().nbytes, raw_bytes=first.raw_bytes
        )
        manifest = dict(
            fields=[field.plain() for field in self.vocabulary.fields],
            label=data['label']['column'],
            outcomes=outcomes.names_of(data),
            group=data['group'],
            utc_offset_hours=times.offset_hours(data['time']),
            notes=[*self._source.notes(), 'made when read, never stored; the bytes of a block are those of the first'],
            blocks=[block | like_first for block in blocks],
        )
        super().__init__(Path(), manifest, data['until'])

    def _piece(self, t: int) -> sources.Piece:
        return next(self._source.new_pieces(range(t), None, None, None))

    def _encoded(self, piece: sources.Piece) -> pa.Table:
        columns = {**piece.columns, **prepare.time_fields(piece.time, self._source.data)}
        encoded = {
            field.name: self.vocabulary.encode(f, columns[field.name], piece.key)
            for f, field in enumerate(self.vocabulary.fields)
        }
        own = {'__label': piece.label.astype(np.int8), '__time': piece.time, '__bayes': piece.bayes}
        return pa.table(encoded | own)

    def _read(self, t: int, rows: slice, columns: list[str] | None = None) -> pa.Table:
        table = self._encoded(self._piece(t)).slice(rows.start, rows.stop - rows.start)
        return table.select(columns) if columns else table
