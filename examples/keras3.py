"""A model of your own, in Keras 3, joins the answer: trained on an export of a memory, told beside all others.

    python scripts/export.py --memory=runs/kuairand/memory --to=exports/kuairand
    KERAS_BACKEND=torch python examples/keras3.py --export=exports/kuairand --name=keras-deepfm
    python scripts/compare.py --memory=runs/kuairand/memory --predictions=exports/kuairand/predictions

The second needs keras with any of its backends, numpy and pyarrow. Yours to change is DeepFM; `fit` fits any model that
takes codes and lists.
"""

import argparse

import keras
import numpy as np
from keras import layers, ops

from diet_jax import elsewhere


class DeepFM(keras.Model):
    def __init__(self, view, dim=8):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=view.init_std)  # Keras' own is uniform, to 0.05
        self.table = layers.Embedding(view.num_codes, dim, embeddings_initializer=normal)
        self.first = layers.Embedding(view.num_codes, 1, embeddings_initializer='zeros')
        self.deep = keras.Sequential([layers.Dense(64, 'relu'), layers.Dense(32, 'relu'), layers.Dense(1)])

    def fields(self, table, x):  # of the codes, and of every list the mean: f32[B, F, dim]
        mean = lambda at, w: ops.sum(table(at) * w[..., None], 1) / ops.maximum(ops.sum(w, 1, keepdims=True), 1e-9)  # noqa
        means = [mean(x[name], x[f'{name} weight'])[:, None] for name in x if f'{name} weight' in x]
        return ops.concatenate([table(x['codes']), *means], 1)

    def call(self, x):  # -> f32[B, 1], logits
        e, first = self.fields(self.table, x), self.fields(self.first, x)
        pairs = ops.sum(ops.square(ops.sum(e, 1)) - ops.sum(ops.square(e), 1), 1, keepdims=True) / 2
        return ops.sum(first, 1) + pairs + self.deep(ops.reshape(e, (-1, e.shape[1] * e.shape[2])))


def inputs(rows):
    weights = {f'{name} weight': weight for name, weight in rows.list_weights.items()}
    return {'codes': rows.codes, **rows.lists, **weights}


def fit(train, lr, seed):
    """Trains a new model on rows of a memory; gives back what says the probabilities of other rows."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = DeepFM(train.view)
    model.compile(keras.optimizers.Adam(lr, epsilon=1e-8), keras.losses.BinaryCrossentropy(from_logits=True))
    for batch in train.batches(seed):  # Keras' own step; its `fit` warns that a generator ends
        model.train_on_batch(inputs(batch), batch.target[:, None])
    return lambda rows: 1 / (1 + np.exp(-model.predict(inputs(rows), batch_size=4096, verbose=0)))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--export', required=True, help='the folder that scripts/export.py wrote')
    parser.add_argument('--name', default='keras-deepfm', help='of the candidate')
    parser.add_argument('--log', action='store_true', help='a full run, on an export with the log: a line of anchors')
    args = parser.parse_args()
    train = elsewhere.full_run if args.log else elsewhere.grid
    print(train(fit, args.export, args.name, framework='keras'))
