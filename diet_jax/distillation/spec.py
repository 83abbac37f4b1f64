"""What is static in a stage: models, sizes, numbers of a config. The first argument of every mechanism."""

from __future__ import annotations

from typing import NamedTuple

from ml_collections import ConfigDict, FrozenConfigDict

from diet_jax.base.layout import Layout
from diet_jax.models import Model
from diet_jax.models.recipes import Recipe, recipe_of


class Spec(NamedTuple):
    """Hashable: what is compiled, is compiled for one."""

    reference: Model  # over slots, trained along the stream
    recipe: Recipe  # of the reference model
    learning_rate: float  # of the reference model
    twins: tuple[tuple[Model, Recipe, float], ...]  # other models along the same stream, with their learning rates
    students: tuple[Model, ...]  # over codes, of the outer loop
    layout: Layout  # F fields on W columns of ids
    codes: int  # C, codes of every field
    memory: FrozenConfigDict  # the sections of the config: row_budget, capacity, max_new
    addressing: FrozenConfigDict
    refine: FrozenConfigDict
    others: int = 0  # outcomes of a row beside the main one
    aside: int = 0  # so many of the twins, the last ones, are there for their scores alone
    axis: str | None = None  # the device axis that shards a block's rows; None: one device
    shard_tables: bool = False  # the rows of id tables lie over that axis too

    @property
    def shards(self) -> str | None:
        """The device axis where id tables are spread over it (`device.tables`)."""
        return self.axis if self.shard_tables else None

    @property
    def num_fields(self) -> int:
        """F."""
        return len(self.layout.names)

    @property
    def columns(self) -> int:
        """W, of the ids of a row."""
        return self.layout.columns

    @property
    def num_codes(self) -> int:
        """Rows of a student's table: every field has the same number of codes."""
        return self.num_fields * self.codes

    @property
    def along_the_stream(self) -> tuple[Model, ...]:
        """The reference model, then the twins."""
        return (self.reference, *(model for model, *_ in self.twins))

    @property
    def with_codes(self) -> tuple[Model, ...]:
        """Those of them that codes may be clusters of."""
        return self.along_the_stream[: 1 + len(self.twins) - self.aside]


def spec_of(
    config: ConfigDict,
    reference: Model,
    students,
    *,
    layout: Layout,
    twins=(),
    aside: int = 0,
    others: int = 0,
    axis: str | None = None,
) -> Spec:
    """The spec of a run.

    Args:
      config: the run's, its static sizes filled in (`run.sizes.sized`); reference, students: `Model`s.
      layout: of the rows; twins: of (`Model`, `Recipe`, learning rate), the last `aside` for their scores alone;
      others: outcomes of a row beside the main one; axis: name of the device axis, or None.

    >>> from diet_jax.base.layout import flat
    >>> from diet_jax.config import default_config
    >>> from diet_jax.models import build
    >>> spec = spec_of(default_config(), build('deepfm'), [build('fm')], layout=flat(['user', 'item']))
    >>> spec.refine.inner_steps, spec.num_fields
    (20, 2)
    """
    numbers = {name: value for name, value in config.refine.items() if name != 'models'}
    return Spec(
        reference=reference,
        recipe=recipe_of(config.reference, where='reference'),
        learning_rate=config.reference.learning_rate * config.reference.rate,
        twins=tuple((model, recipe, float(rate)) for model, recipe, rate in twins),
        students=tuple(students),
        layout=layout,
        codes=config.codebook.codes,
        memory=FrozenConfigDict(config.memory),
        addressing=FrozenConfigDict(config.addressing),
        refine=FrozenConfigDict(numbers),
        others=others,
        aside=aside,
        axis=axis,
        shard_tables=config.reference.shard_tables,
    )
