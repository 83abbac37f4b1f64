"""Local time: what the config says, else the zone that the log's own times are written in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from diet_jax.base.errors import UserError
from diet_jax.data import files, tables, times


def settle(data: dict, root: files.Root, log_files: Sequence[files.LogFile], manifest: dict | None) -> None:
    """Sets `data.time.utc_offset_hours` where it is None: to what earlier blocks were cut by, or as the first row says.

    Raises:
      UserError: the column of the time is not there, or is in a zone that is not known.
    """
    time = data['time']
    if manifest and 'utc_offset_hours' in manifest:  # a cache of before does not say it
        known = manifest['utc_offset_hours']
        if time['utc_offset_hours'] not in (None, known):
            raise UserError(
                f"data.time.utc_offset_hours is {time['utc_offset_hours']:g}, but the log's blocks were cut at "
                f'{known:g}, the zone of its times: set it to that, or start a new workdir'
            )
        time['utc_offset_hours'] = known
        return
    if manifest and time['utc_offset_hours'] is None:
        time['utc_offset_hours'] = 0.0
    if time['utc_offset_hours'] is not None:
        return
    form, time['utc_offset_hours'] = tables.form_of(data), 0.0
    for file in log_files:
        if time['column'] not in tables.column_names(root, file, form):
            return  # said when the log is read
        first = next(tables.batches(root, file, form, [time['column']], [time['column']], rows=1))[time['column']]
        if len(first):
            try:
                found, zone = times.zoned_times(first.slice(0, 1), time, '', data['null_words'])
            except UserError:  # said when the log is read, of all its rows
                return
            if zone not in ('', 'UTC', times.NO_ZONE):
                seconds = int(found[0]) // times.time_ticks(time)
                time['utc_offset_hours'] = offset_of(zone, seconds, f"{file.name}: column '{time['column']}'")
            return


def offset_of(zone: str, seconds: int, where: str) -> float:
    """Hours that a zone is ahead of UTC, at a time in seconds since 1970.

    >>> offset_of('+05:30', 0, ''), offset_of('America/New_York', 1_720_000_000, '')
    (5.5, -4.0)
    """
    if zone[:1] in '+-':
        hours = int(zone[1:3]) + int(zone.replace(':', '')[3:5] or 0) / 60
        return -hours if zone[0] == '-' else hours
    try:
        there = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UserError(f"{where} is in zone '{zone}', which is not known: set data.time.utc_offset_hours") from error
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return float(np.round(when.astimezone(there).utcoffset() / timedelta(hours=1), 4))
