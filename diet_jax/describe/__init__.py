"""From a folder of log files to a config: what the files are, what their columns look like, and what that suggests."""

from diet_jax.describe.summary import summary
from diet_jax.describe.survey import Survey, survey
from diet_jax.describe.write import config_text

__all__ = ['Survey', 'config_text', 'summary', 'survey']
